"""What makes a resumed run exact."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.dist import master_only
from mmengine.hooks import CheckpointHook, EarlyStoppingHook, Hook
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, Runner

from mmkd.config.key_finder import dicts
from mmkd.datasets.seeding import SeededDataset, SeededSampler, seed_streams
from mmkd.distributed.unwrapped import unwrapped
from mmkd.fileio.atomic_writes import remove_partial


class ExactResumeHook(Hook):
    """Seed each iteration, and keep what a checkpoint of mmengine leaves out."""

    priority = 'VERY_HIGH'

    def before_train(self, runner: Runner) -> None:
        """Clear up after a process that was killed, and name what cannot go on exactly."""
        _remove_partial(runner)
        for part in forgetful_parts(runner):
            runner.logger.warning(f'A resume of this run will not be exact: {part}')

    def before_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Dropout and the like follow from seed and iteration."""
        seed_streams(runner.seed, runner.iter)

    def after_val_epoch(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Note for :class:`InterruptedValidationHook` what has been validated."""
        if isinstance(runner._train_loop, BaseLoop):  # not in a validation on its own
            runner.message_hub.update_info('validated', _progress(runner.train_loop)[0])

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Save gradients that are being accumulated, and what early stops have counted."""
        checkpoint['gradients'] = {
            name: parameter.grad.cpu()
            for name, parameter in unwrapped(runner.model).named_parameters()
            if parameter.grad is not None
        }
        checkpoint['early_stops'] = {
            hook.monitor: dict(wait_count=int(hook.wait_count), best_score=float(hook.best_score))
            for hook in _early_stops(runner)
        }

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Restore them."""
        if not runner._resume:
            return
        for name, parameter in unwrapped(runner.model).named_parameters():
            if name in checkpoint.get('gradients', {}):
                parameter.grad = checkpoint['gradients'][name].to(parameter)
        for hook in _early_stops(runner):
            vars(hook).update(checkpoint.get('early_stops', {}).get(hook.monitor, {}))


class InterruptedValidationHook(Hook):
    """Validate first if the run was stopped after a checkpoint and before its validation's end.

    mmengine would leave it out: the best checkpoint might be missed, and the last figures.
    """

    priority = 'LOWEST'  # when all hooks are ready

    def before_train(self, runner: Runner) -> None:
        """Validate the resumed weights if that is due and not known to be done."""
        loop: Any = runner.train_loop
        if not runner._resume or runner.iter == 0 or runner.val_loop is None:
            return
        loop._decide_current_val_interval()
        now, end = _progress(loop)
        due = now >= loop.val_begin and (now % loop.val_interval == 0 or now == end)
        if due and runner.message_hub.runtime_info.get('validated') != now:
            runner.val_loop.run()


class EarlyEndHook(Hook):
    """Let a run that was stopped early leave what any run leaves, and know that it has ended.

    ``CheckpointHook.save_last`` waits for the last epoch, which does not come.
    """

    priority = 'LOW'  # before CheckpointHook publishes the last checkpoint

    def after_train(self, runner: Runner) -> None:
        """Save the last checkpoint."""
        loop: Any = runner.train_loop
        if not getattr(loop, 'stop_training', False):
            return
        for hook in runner.hooks:
            if not isinstance(hook, CheckpointHook) or not hook.save_last:
                continue
            if hook.by_epoch and not isinstance(loop, EpochBasedTrainLoop):
                continue  # it has seen the end of the one big epoch
            now = loop.epoch if hook.by_epoch else loop.iter
            hook._save_checkpoint_with_step(runner, now, dict(epoch=loop.epoch, iter=loop.iter))

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Note whether it has ended."""
        checkpoint['stopped_early'] = getattr(runner.train_loop, 'stop_training', False)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Do not go on after an early stop, as long as the config has one."""
        if runner._resume and _early_stops(runner) and checkpoint.get('stopped_early'):
            runner.train_loop.stop_training = True
            runner.logger.info(
                'This run has ended already, by EarlyStoppingHook. To train on, take it out.'
            )


class NewLoaderHook(Hook):
    """Keep exact what MMYOLO's YOLOXModeSwitchHook does: it builds a new data loader.

    That one's randomness would not follow from the seed; and resumed after its epoch, the hook
    would not switch at all.
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
            config = _seeded(runner.cfg.train_dataloader, loader.dataset, runner.seed)
            loop.dataloader = loader = runner.build_dataloader(config, seed=runner.seed)
            loader.sampler.set_epoch(runner.epoch)
            loader.sampler.start_at(old._first)
        self.sampler = loader.sampler


def _seeded(loader: Mapping[str, Any], dataset: Any, seed: int | None) -> dict[str, Any]:
    """A loader's config whose randomness follows from the seed."""
    return {
        **loader,
        'dataset': dict(type=SeededDataset, dataset=dataset, seed=seed),
        'sampler': dict(type=SeededSampler, sampler=loader['sampler']),
    }


def _early_stops(runner: Runner) -> list[Any]:
    return [hook for hook in runner.hooks if isinstance(hook, EarlyStoppingHook)]


def _progress(loop: Any) -> tuple[int, int]:
    if isinstance(loop, EpochBasedTrainLoop):
        return loop.epoch, loop.max_epochs
    return loop.iter, loop.max_iters


@master_only
def _remove_partial(runner: Runner) -> None:
    remove_partial(runner.work_dir)
    for hook in runner.hooks:
        if isinstance(hook, CheckpointHook) and hook.out_dir:
            remove_partial(Path(hook.out_dir, Path(runner.work_dir).name))


def forgetful_parts(runner: Runner) -> Iterator[str]:
    """Parts of a run with a memory of their own, which is in no checkpoint."""
    for node in dicts(runner.cfg.get('train_dataloader')):
        if node.get('use_cached'):
            yield f'{node.get("type")} keeps a cache of images in each worker (use_cached=True).'
    for module in runner.model.modules():
        if type(module).__name__.endswith('BatchSyncRandomResize'):
            yield f'{type(module).__name__} keeps its last size for several iterations.'
