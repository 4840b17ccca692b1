"""The teacher's form, chosen where a run begins."""

from logging import WARNING
from typing import Any

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner

from mmkd.algorithms.detection_distill import DetectionDistill
from mmkd.algorithms.idle_terms import PATIENCE
from mmkd.algorithms.teacher_forms import choose_form, fault_of, take_form
from mmkd.distributed.unwrapped import unwrapped
from mmkd.teachers.lean_teacher import EXACT


class LeanTeacherHook(Hook):
    """Choose the form of a teacher with ``lean_teacher='auto'`` on the first batch of a run.

    Exact, channels-last with BatchNorm folded, in bfloat16 (and float16 on a GPU) and, in a long
    run with a C++ compiler at hand, compiled: each teaches the batch, and the fastest whose
    distillation terms stay within 1 % of the exact teacher's is taken. The first process measures
    and decides for all. A checkpoint keeps the form, and a resumed run takes it; if it does not run
    there, the log says so and the exact one is taken. Of a batch that teaches nothing the next one
    is asked, ten at most. With MMKD_LEAN_TEACHER=exact in the environment nothing is measured.

    :class:`mmkd.runner.ExactRunner` has this hook, so that no config has it.
    """

    priority = 'LOWEST'  # when all others have prepared the step

    def __init__(self) -> None:
        self.open = False
        self.tries = 0
        #: Arguments of the form, once it is chosen.
        self.form: dict[str, Any] | None = None

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Remember the form that the run began with."""
        if runner._resume:
            self.form = checkpoint.get('lean_teacher')

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Keep the form."""
        if self.form is not None:
            checkpoint['lean_teacher'] = self.form

    def before_train(self, runner: Runner) -> None:
        """See whether there is anything to choose."""
        model = unwrapped(runner.model)
        self.open = isinstance(model, DetectionDistill) and model.lean_teacher_is_open
        if self.open and self.form is None and runner.iter > 0:
            self.open = False
            runner.logger.info(
                "lean_teacher='auto': the checkpoint keeps no form: the exact teacher goes on."
            )

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Choose, or go on with what was chosen."""
        if not self.open:
            return
        pair = unwrapped(runner.model)
        steps = runner.max_iters - runner.iter
        with runner.optim_wrapper.optim_context(runner.model):  # mixed precision, if it is on
            self.form = _decide(pair, data_batch, steps, self.form)
        self.tries += 1
        if self.form is None and self.tries == PATIENCE:
            self.form = dict(EXACT)
            print_log(
                f"lean_teacher='auto': {PATIENCE} batches taught nothing: the exact teacher stays.",
                'current',
                WARNING,
            )
        if self.form is not None:
            take_form(pair, self.form)
            self.open = False


def _decide(
    pair: DetectionDistill, batch: Any, steps: int, kept: dict[str, Any] | None
) -> dict[str, Any] | None:
    """The form of a run: the one that it began with, if that runs here, or the fastest."""
    if kept is None:
        form, table = choose_form(pair, batch, steps)
        if form is not None:
            print_log(f"lean_teacher='auto' on the first batch:\n{table}", 'current')
        return form
    fault = fault_of(pair, batch, kept)
    if not fault:
        return kept
    print_log(
        f'the teacher of the resumed run had the form {kept}, which does not run here '
        f'({fault}): the exact teacher goes on.',
        'current',
        WARNING,
    )
    return dict(EXACT)
