"""``ExactResumeHook``: what a checkpoint of mmengine leaves out."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine.dist import master_only
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import BaseLoop, Runner

from mmkd.config.key_finder import dicts
from mmkd.datasets.seeding import seed_streams
from mmkd.distributed.unwrapped import unwrapped
from mmkd.fileio.atomic_writes import remove_partial
from mmkd.hooks.early_end_hook import early_stops
from mmkd.hooks.interrupted_validation_hook import progress


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
            runner.message_hub.update_info('validated', progress(runner.train_loop)[0])

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Save gradients that are being accumulated, and what early stops have counted."""
        checkpoint['gradients'] = {
            name: parameter.grad.cpu()
            for name, parameter in unwrapped(runner.model).named_parameters()
            if parameter.grad is not None
        }
        checkpoint['early_stops'] = {
            hook.monitor: dict(wait_count=int(hook.wait_count), best_score=float(hook.best_score))
            for hook in early_stops(runner)
        }

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Restore them."""
        if not runner._resume:
            return
        for name, parameter in unwrapped(runner.model).named_parameters():
            if name in checkpoint.get('gradients', {}):
                parameter.grad = checkpoint['gradients'][name].to(parameter)
        for hook in early_stops(runner):
            vars(hook).update(checkpoint.get('early_stops', {}).get(hook.monitor, {}))


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
