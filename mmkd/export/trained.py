"""A trained detector opened for export: its model, its config and its classes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.config import Config
from mmengine.model.utils import revert_sync_batchnorm
from mmengine.registry import DefaultScope

from mmkd.algorithms.build_detector import build_detector
from mmkd.checkpoints.checkpoint_meta import origin
from mmkd.checkpoints.detector_checkpoint import load_detector, read_checkpoint
from mmkd.checkpoints.loading import kept
from mmkd.config.config_errors import config_errors
from mmkd.config.config_literals import read_literals
from mmkd.config.read_config import read_config
from mmkd.datasets.metainfo import classes_of
from mmkd.export.student_config import student_config


class Trained(NamedTuple):
    """A detector with its weights, in evaluation mode, on the CPU."""

    model: Any
    config: Config
    classes: tuple[str, ...]
    scope: str


def open_trained(checkpoint: str, config: str | Path | Config | None = None) -> Trained:
    """Open the detector of a checkpoint; of a pair's, the student.

    Args:
        checkpoint: a file or a URL.
        config: of the detector or the pair. Defaults to None: the config in the checkpoint, of
            which literals are read and nothing is run.

    Raises:
        FileNotFoundError, ValueError: there is no such file, or it is not of that config.
    """
    if config is None:
        config = _config_inside(checkpoint)
    elif not isinstance(config, Config):
        config = read_config(config)
    cfg = student_config(config)
    scope = cfg.get('default_scope') or 'mmdet'
    with config_errors(cfg), DefaultScope.overwrite_default_scope(scope):
        model = build_detector(cfg.get('model'), 'model')
    load_detector(model, checkpoint, 'checkpoint')
    named = origin(kept(model)[''].meta).classes
    if not named:
        dataset = (cfg.get('test_dataloader') or {}).get('dataset') or {}
        named = tuple(classes_of('test_dataloader', dataset, scope) or ()) if dataset else ()
    return Trained(revert_sync_batchnorm(model).cpu().eval(), cfg, named, scope)


def _config_inside(checkpoint: str) -> Config:
    """The config in a checkpoint, of literals alone, whose types are plain names."""
    text = read_checkpoint(checkpoint, 'the detector to export')['meta'].get('cfg')
    remedy = 'Give the config, too: mmkd export CONFIG CHECKPOINT --format onnx.'
    if not isinstance(text, str):
        raise ValueError(
            'a checkpoint that is exported alone must hold its config, but '
            f'"{checkpoint}" has none. {remedy}'
        )
    read = read_literals(text)
    if not isinstance(read.values.get('model'), Mapping) or not read.reads('model'):
        raise ValueError(
            'a checkpoint that is exported alone must hold a config of literals, but of '
            f'"{checkpoint}" the model would have to be executed. {remedy}'
        )
    values = {key: value for key, value in read.values.items() if key != 'custom_imports'}
    dotted = next((name for name in _types(values) if name.count('.') > 1), None)
    if dotted is not None:
        raise ValueError(
            'a config inside a checkpoint must name registered types, but '
            f'"{checkpoint}" names "{dotted[:80]}". {remedy}'
        )
    return Config(values)


def _types(node: Any) -> list[str]:
    if isinstance(node, Mapping):
        own = [node['type']] if isinstance(node.get('type'), str) else []
        return own + [name for value in node.values() for name in _types(value)]
    if isinstance(node, list | tuple):
        return [name for item in node for name in _types(item)]
    return []
