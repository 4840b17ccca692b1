"""The student of a distillation checkpoint as an mmdet checkpoint with its config."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import DefaultScope

from mmkd.algorithms.build_detector import build_detector
from mmkd.checkpoints.detector_checkpoint import load_detector, read_checkpoint, save_checkpoint
from mmkd.checkpoints.state_keys import STUDENT_PREFIX, student_state_dict
from mmkd.config.config_files import config_files
from mmkd.export.student_config import student_config
from mmkd.fileio.atomic_writes import write_atomic
from mmkd.fileio.check_not_read import check_not_read
from mmkd.quantization.quantized import KEY as QUANTIZATION
from mmkd.quantization.quantized import learned_ranges, split_ranges


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
    _check_name(out)
    check_not_read((out, beside), [checkpoint, *config_files(config)])
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
    _write_student(loaded, config, out)
    return out


def _check_name(out: Path) -> None:
    if out.suffix not in ('.pth', '.pt'):
        raise ValueError(f'the exported student must be named NAME.pth, but got "{out}". Add .pth.')


def _write_student(loaded: Mapping[str, Any], config: Config, out: Path) -> None:
    text = student_config(config).pretty_text  # it takes a second
    meta = {**loaded['meta'], 'cfg': text}
    weights, ranges = split_ranges(student_state_dict(loaded['state_dict']))
    ranges = ranges or learned_ranges(loaded)
    kept = {QUANTIZATION: ranges} if ranges else {}
    save_checkpoint({'state_dict': weights, 'meta': meta, **kept}, out)
    write_atomic(out.with_suffix('.py'), text.encode())


def check_student(checkpoint: str, config: Config) -> None:
    """Check that a distillation checkpoint holds the student of a config, before it is exported.

    Raises:
        FileNotFoundError, ValueError: its keys are others, or mean something else there.
    """
    own = student_config(config)
    with DefaultScope.overwrite_default_scope(own.get('default_scope', 'mmdet')):
        student = build_detector(own.model, 'the student')
    load_detector(student, checkpoint, 'the checkpoint to export')
