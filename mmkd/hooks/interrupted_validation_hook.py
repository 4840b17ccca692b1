"""``InterruptedValidationHook``: a validation that was interrupted comes first after a resume."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner


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
        now, end = progress(loop)
        due = now >= loop.val_begin and (now % loop.val_interval == 0 or now == end)
        if due and runner.message_hub.runtime_info.get('validated') != now:
            runner.val_loop.run()


def progress(loop: Any) -> tuple[int, int]:
    """How far a training is, and where it ends: in epochs, or in iterations where it has none."""
    if isinstance(loop, EpochBasedTrainLoop):
        return loop.epoch, loop.max_epochs
    return loop.iter, loop.max_iters
