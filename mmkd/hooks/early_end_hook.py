"""``EarlyEndHook``: a run that was stopped early leaves what any run leaves."""

from typing import Any

from mmengine.hooks import CheckpointHook, EarlyStoppingHook, Hook
from mmengine.runner import EpochBasedTrainLoop, Runner


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
        if runner._resume and early_stops(runner) and checkpoint.get('stopped_early'):
            runner.train_loop.stop_training = True
            runner.logger.info(
                'This run has ended already, by EarlyStoppingHook. To train on, take it out.'
            )


def early_stops(runner: Runner) -> list[Any]:
    """The hooks that may end a run early."""
    return [hook for hook in runner.hooks if isinstance(hook, EarlyStoppingHook)]
