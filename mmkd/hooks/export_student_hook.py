"""The student as an ordinary mmdet checkpoint at the end of a training."""

from pathlib import Path
from typing import Any

from mmengine.hooks import EMAHook, Hook
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop, Runner

from mmkd.checkpoints.detector_checkpoint import read_checkpoint
from mmkd.export.export_student import _check_name, _write_student
from mmkd.export.student_config import student_config
from mmkd.fileio.atomic_writes import PARTIAL


@HOOKS.register_module()
class ExportStudentHook(Hook):
    """Write the student to the work directory, with the weights that it has when training ends.

    They are what a checkpoint would hold then, so the average where an ``EMAHook`` keeps one.
    Neither the interval of checkpoints nor an early stop matters. A detector that is trained on
    its own is written as it is.

    Args:
        filename (str): name of the checkpoint; the config gets the same name with ``.py``.
            Defaults to 'student.pth'.

    Raises:
        ValueError, IsADirectoryError: ``filename`` is no name for a checkpoint, or of a folder.
    """

    # After CheckpointHook (VERY_LOW), whose checkpoints are whole if there is no room for this one.
    priority = 'LOWEST'

    def __init__(self, filename: str = 'student.pth') -> None:
        _check_name(Path(filename))
        self.filename = filename

    def before_run(self, runner: Runner) -> None:
        """Look whether the files can be made and written at the end."""
        out = Path(runner.work_dir, self.filename)
        for path in (out, out.with_suffix('.py')):
            if path.is_dir():
                raise IsADirectoryError(
                    f'the student is to be written to "{path}", but there is a folder of that '
                    'name. Move it, or give ExportStudentHook another filename.'
                )
        student_config(runner.cfg)

    def before_train(self, runner: Runner) -> None:
        """Say that an earlier student will be replaced."""
        out = Path(runner.work_dir, self.filename)
        if runner.rank == 0 and runner.iter == 0 and out.exists():
            runner.logger.warning(
                f'{out} is of an earlier run: it stays as it is until this one ends, which '
                'replaces it. To keep it, move it or give this run another --work-dir.'
            )

    def after_train(self, runner: Runner) -> None:
        """Export on the first rank."""
        if runner.rank != 0:
            return
        out = Path(runner.work_dir, self.filename)
        now = out.with_name(f'.{out.name}{PARTIAL}')
        try:
            runner.save_checkpoint(
                str(now.parent),
                now.name,
                save_optimizer=False,
                save_param_scheduler=False,
                meta=dict(epoch=runner.epoch, iter=runner.iter),
            )
            _write_student(read_checkpoint(str(now), 'the state to export'), runner.cfg, out)
        finally:
            now.unlink(missing_ok=True)
        runner.logger.info(f'The student alone, for mmdet: {out} with {out.stem}.py: {_of(runner)}')


def _of(runner: Runner) -> str:
    """Which weights those of the end of training are, and where others are."""
    loop: Any = runner.train_loop
    if isinstance(loop, EpochBasedTrainLoop):
        when = f'epoch {loop.epoch} of {loop.max_epochs}'
    else:
        when = f'iteration {loop.iter} of {loop.max_iters}'
    stopped = ', where it was stopped early' if getattr(loop, 'stop_training', False) else ''
    averaged = any(isinstance(hook, EMAHook) for hook in runner.hooks)
    text = f'the {"averaged " if averaged else ""}weights at the end of training, {when}{stopped}'
    best = [
        str(path)
        for hook in runner.hooks
        for path in (
            getattr(hook, 'best_ckpt_path', None),
            *getattr(hook, 'best_ckpt_path_dict', {}).values(),
        )
        if path
    ]
    if best:
        text += f'. The best so far, {", ".join(best)}, is exported by "mmkd export"'
    return text
