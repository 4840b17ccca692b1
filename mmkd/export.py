"""The student on its own: an ordinary mmdet checkpoint with its config beside it."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, DefaultScope
from mmengine.runner import Runner

from mmkd.algorithm import build_detector
from mmkd.checkpoint import load_detector, read_checkpoint, save_whole
from mmkd.state_keys import STUDENT_PREFIX, student_state_dict
from mmkd.whole import write_whole


def is_distillation(config: Config) -> bool:
    """Whether a config's model is a distillation algorithm with a student inside."""
    return isinstance(config.get('model'), dict) and 'architecture' in config.model


def student_config(config: Config) -> Config:
    """The student's own config: that of the pair, with the student for its model.

    Everything else (data, schedule, evaluation) stays, so mmdet's own tools can test the student
    and go on training it.
    """
    config = Config(config.to_dict()) if hasattr(config, 'to_dict') else Config(dict(config))
    while is_distillation(config):
        student = config.model.architecture
        if isinstance(student, str):
            student = Config.fromfile(student).model
        config.pop('model')
        config.model = student
    hooks = config.get('default_hooks') or {}
    for name in [name for name, hook in hooks.items() if _of_training_here(hook)]:
        hooks.pop(name)
    if config.get('custom_hooks'):
        config.custom_hooks = [h for h in config.custom_hooks if not _of_training_here(h)]
    # Where the run started from or went on from is of no concern to the student.
    config.pop('load_from', None)
    config.pop('resume', None)
    return config


def _of_training_here(hook: Any) -> bool:
    # What mmdet alone does not have, or a student alone cannot use.
    kind = hook.get('type') if isinstance(hook, Mapping) else None
    return str(kind).split('.')[-1] in (
        'DistillWeightHook',
        'ExportStudentHook',
        'NonFiniteHook',
        'PairReportHook',
        'StopDistillHook',
    )


def export_student(
    checkpoint: str, config: Config, out: str | Path, overwrite: bool = False
) -> Path:
    """Write the student of a distillation checkpoint as an ordinary mmdet checkpoint.

    Beside ``out`` (``NAME.pth``) the student's config is written as ``NAME.py``.

    Args:
        checkpoint: what a distillation run saved.
        config: the config of that run.
        out: the file to write; it appears whole or not at all.
        overwrite: whether ``out`` may exist. Defaults to False.

    Raises:
        ValueError: ``checkpoint`` holds no student, or ``out`` is no name for one.
        FileExistsError: ``out`` or its config exists.
    """
    out = Path(out)
    beside = out.with_suffix('.py')
    if out.suffix not in ('.pth', '.pt'):
        raise ValueError(f'the exported student must be named NAME.pth, but got "{out}".')
    for path in (out, beside):
        if path.exists() and not overwrite:
            raise FileExistsError(
                f'the exported student must not replace a file, but {path} exists. '
                'Name another file, or allow it (--force).'
            )
    loaded = read_checkpoint(checkpoint, 'the checkpoint to export')
    weights = loaded['state_dict']
    if not any(key.removeprefix('module.').startswith(STUDENT_PREFIX) for key in weights):
        raise ValueError(
            f'the checkpoint to export must come from a distillation run, but no key of '
            f'"{checkpoint}" starts with "{STUDENT_PREFIX}". A plain checkpoint needs no export.'
        )
    own = student_config(config)
    meta = {k: v for k, v in loaded.get('meta', {}).items() if k != 'cfg'}
    meta['cfg'] = own.pretty_text
    save_whole({'state_dict': student_state_dict(weights), 'meta': meta}, out)
    write_whole(beside, own.pretty_text.encode())
    return out


def check_student(checkpoint: str, config: Config) -> None:
    """Check that a distillation checkpoint holds the student of a config, before it is exported.

    Raises:
        FileNotFoundError, ValueError: its keys are others, or mean something else there.
    """
    own = student_config(config)
    with DefaultScope.overwrite_default_scope(own.get('default_scope', 'mmdet')):
        student = build_detector(own.model, 'the student')
    load_detector(student, checkpoint, 'the checkpoint to export')


@HOOKS.register_module()
class ExportStudentHook(Hook):
    """At the end of training write the student of the last checkpoint to the work directory.

    Args:
        filename (str): name of the checkpoint; the config gets the same name with ``.py``.
            Defaults to 'student.pth'.
    """

    # After CheckpointHook (VERY_LOW), which writes the checkpoint that is exported.
    priority = 'LOWEST'

    def __init__(self, filename: str = 'student.pth') -> None:
        self.filename = filename

    def after_train(self, runner: Runner) -> None:
        """Export on the first rank."""
        if runner.rank != 0:
            return
        pointer = Path(runner.work_dir, 'last_checkpoint')
        if not pointer.is_file():
            runner.logger.warning('ExportStudentHook: no checkpoint was saved, nothing to export')
            return
        checkpoint = pointer.read_text().strip()
        if not os.path.isfile(checkpoint):  # the run's folder was moved
            checkpoint = str(pointer.parent / Path(checkpoint).name)
        out = export_student(checkpoint, runner.cfg, Path(runner.work_dir, self.filename), True)
        runner.logger.info(
            f'The student alone, for mmdet: {out} with {out.with_suffix(".py").name}'
        )
