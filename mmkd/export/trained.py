"""A trained detector opened for export: its model, its config and its classes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from mmengine.model.utils import revert_sync_batchnorm
from mmengine.registry import DefaultScope

from mmkd.algorithms.build_detector import build_detector
from mmkd.checkpoints.checkpoint_meta import origin
from mmkd.checkpoints.detector_checkpoint import load_detector, read_checkpoint
from mmkd.checkpoints.foreign import shown
from mmkd.checkpoints.loading import kept
from mmkd.checkpoints.registered_config import registered_config
from mmkd.checkpoints.registered_parts import Bounded, NotBuilt
from mmkd.config.config_errors import config_errors
from mmkd.config.read_config import read_config
from mmkd.datasets.metainfo import classes_of
from mmkd.export.student_config import student_config

#: What the mAP is measured by.
_MEASURES = ('val_evaluator', 'test_evaluator')


class Trained(NamedTuple):
    """A detector with its weights, in evaluation mode, on the CPU."""

    model: Any
    config: Config
    classes: tuple[str, ...]
    scope: str


def open_trained(
    checkpoint: str, config: str | Path | Config | None = None, also: Sequence[str] = ()
) -> Trained:
    """Open the detector of a checkpoint; of a pair's, the student.

    Args:
        checkpoint: a file or a URL.
        config: of the detector or the pair. Defaults to None: the config in the checkpoint,
            which is read and never run, and may name what is registered in mmengine, mmdet, MMYOLO
            or mmkd, alone.
        also: keys of the config in the checkpoint that are wanted besides what a figure takes.

    Raises:
        FileNotFoundError, ValueError: there is no such file, or it is not of that config.
    """
    cfg, model = open_model(checkpoint, config, also=(*_MEASURES, *also))
    scope = _scope(cfg)
    named = origin(kept(model)[''].meta).classes
    if not named:
        dataset = (cfg.get('test_dataloader') or {}).get('dataset') or {}
        named = tuple(classes_of('test_dataloader', dataset, scope) or ()) if dataset else ()
    return Trained(revert_sync_batchnorm(model).cpu().eval(), cfg, named, scope)


def open_model(
    checkpoint: str, config: str | Path | Config | None = None, also: Sequence[str] = ()
) -> tuple[Config, Any]:
    """A detector's config and its model with the weights, as :func:`open_trained`.

    Args:
        checkpoint: a file or a URL.
        config: of the detector or the pair. Defaults to None: the config in the checkpoint.
        also: keys of the config in the checkpoint that are wanted besides what prediction takes.
    """
    if config is None:
        cfg, model = _open_alone(checkpoint, also)
    else:
        cfg = student_config(config if isinstance(config, Config) else read_config(config))
        with config_errors(cfg), DefaultScope.overwrite_default_scope(_scope(cfg)):
            model = build_detector(cfg.get('model'), 'model')
    load_detector(model, checkpoint, 'checkpoint')
    return cfg, model


def _open_alone(checkpoint: str, also: Sequence[str]) -> tuple[Config, Any]:
    """The config in a checkpoint, and the detector that is built of it, so far without weights."""
    held = read_checkpoint(checkpoint, 'the detector')
    cfg = student_config(Config(registered_config(held, checkpoint, student=True, also=also)))
    for key in also:
        for metric in _metrics(cfg.get(key)):
            metric.pop('outfile_prefix', None)  # a file of others does not say what is written
    weights = [value for value in held['state_dict'].values() if torch.is_tensor(value)]
    try:
        with DefaultScope.overwrite_default_scope(_scope(cfg)), Bounded(weights):
            return cfg, build_detector(cfg.model, 'model')
    except Exception as error:  # whatever its arguments make of constructors
        reason = str(error) if isinstance(error, NotBuilt) else f'{type(error).__name__}: {error}'
        raise ValueError(
            f'a checkpoint that is opened alone must hold a config that its weights fit, but of '
            f'"{checkpoint}" {shown(reason)}. Give the config, too.'
        ) from error


def _metrics(evaluator: Any) -> list[Any]:
    """The metrics of an evaluator's config: one, several, or none."""
    found = evaluator if isinstance(evaluator, list | tuple) else [evaluator]
    return [metric for metric in found if isinstance(metric, dict)]


def _scope(cfg: Config) -> str:
    return cfg.get('default_scope') or 'mmdet'
