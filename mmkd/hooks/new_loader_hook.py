"""``NewLoaderHook``: a data loader that another hook builds anew stays seeded."""

from collections.abc import Mapping
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmkd.algorithms.build_teacher import begin_teaching
from mmkd.datasets.mixed_batches import mixed_anew
from mmkd.datasets.seeding import SeededDataset, SeededSampler
from mmkd.distributed.unwrapped import unwrapped


class NewLoaderHook(Hook):
    """Keep exact what MMYOLO's YOLOXModeSwitchHook does: it builds a new data loader.

    That one's randomness would not follow from the seed, and it would have no images without
    annotations; and resumed after its epoch, the hook would not switch at all.
    """

    priority = 'LOWEST'  # after the switch

    def before_train(self, runner: Runner) -> None:
        """Make up for a switch that came before the checkpoint."""
        loop: Any = runner.train_loop
        self.sampler = getattr(loop.dataloader, 'sampler', None)
        for hook in runner.hooks:
            if not runner._resume or not hasattr(hook, 'new_train_pipeline_cfg'):
                continue
            epoch = loop.epoch
            switched = loop.max_epochs - hook.num_last_epochs - 1
            if 0 <= switched < epoch:
                loop._epoch = switched
                hook.before_train_epoch(runner)
                loop._epoch = epoch

    def before_train_epoch(self, runner: Runner) -> None:
        """Seed a new loader as the first one was."""
        loop: Any = runner.train_loop
        loader, old = loop.dataloader, self.sampler
        if not isinstance(old, SeededSampler):
            return
        if not isinstance(loader.sampler, SeededSampler):
            config = seeded(*mixed_anew(runner.cfg, loader.dataset), runner.seed)
            loop.dataloader = loader = runner.build_dataloader(config, seed=runner.seed)
            loader.sampler.set_epoch(runner.epoch)
            loader.sampler.start_at(old._first)
            begin_teaching(unwrapped(runner.model), loader)
        self.sampler = loader.sampler


def seeded(loader: Mapping[str, Any], dataset: Any, seed: int | None) -> dict[str, Any]:
    """A loader's config whose randomness follows from the seed."""
    return {
        **loader,
        'dataset': dict(type=SeededDataset, dataset=dataset, seed=seed),
        'sampler': dict(type=SeededSampler, sampler=loader['sampler']),
    }
