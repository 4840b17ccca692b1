"""A detector opened from its checkpoint, with a config beside it or with the one inside it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.model.utils import revert_sync_batchnorm
from mmengine.registry import TASK_UTILS, DefaultScope

from mmkd.checkpoints.checkpoint_meta import origin
from mmkd.checkpoints.data_origin import check_data_origin
from mmkd.checkpoints.fetch import is_address
from mmkd.checkpoints.foreign import is_onnx
from mmkd.checkpoints.loading import kept
from mmkd.checkpoints.reader import find_checkpoint
from mmkd.config.config_errors import ConfigError, config_errors
from mmkd.config.read_config import read_config
from mmkd.datasets.measured_sets import measured_sets
from mmkd.datasets.metainfo import classes_of
from mmkd.export.trained import open_model
from mmkd.predict.detector import Detector
from mmkd.predict.exported_detector import open_exported


def load(
    checkpoint: str | Path, config: str | Path | Config | None = None, device: str | None = None
) -> Detector:
    """Open a detector, to be called with images.

    Args:
        checkpoint: ``student.pth``, or the checkpoint of a pair (its student is taken) or of any
            detector of mmdet or MMYOLO, as a file or a URL; or ``student.onnx``, as ``mmkd export
            --format onnx`` writes it.
        config: the detector's or the pair's. Defaults to None: the config in the checkpoint. That
            one is read and never run, and may name what is registered in mmengine, mmdet, MMYOLO
            or mmkd, alone. An exported file needs none.
        device: where it computes, for example 'cuda:1'. Defaults to None: a GPU if there is one.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the checkpoint holds no detector or not that of the config, its config would
            have to be run, or the device is not there.
        ModuleNotFoundError: the file is an exported one, and onnxruntime is not installed.

    Example::

        from mmkd import load

        detect = load('student.pth')
        detect('image.jpg').names
    """
    place, path = find_device(device), str(checkpoint)
    if not is_address(path) and is_onnx(find_checkpoint(path, 'the detector')):
        known_sets = None if config is None else measured_sets(_read(config))
        return open_exported(path, place, device is not None, known_sets)
    cfg, model = open_model(path, config)
    dataset, scope = _prepared_by(cfg), _scope(cfg)
    alone = config is None  # then a text as classes, the name of a file, is not opened
    told = (dataset.get('metainfo') or {}).get('classes')
    known = (
        classes_of('test_dataloader', dataset, scope)
        if not (alone and isinstance(told, str))
        else None
    )
    check_data_origin(model, cfg, known, order_matters=False)
    named = origin(kept(model)[''].meta).classes or tuple(known or ())
    with config_errors(cfg), DefaultScope.overwrite_default_scope(scope):
        transforms = Compose(dataset['pipeline']).transforms
        shapes = dataset.get('batch_shapes_cfg')
        policy = TASK_UTILS.build({**shapes, 'batch_size': 1}) if shapes else None
    model = revert_sync_batchnorm(model).to(place).eval()
    return Detector(model, transforms, named, scope, policy, measured_sets(cfg))


def _read(config: str | Path | Config) -> Config:
    return config if isinstance(config, Config) else read_config(config)


def _scope(cfg: Config) -> str:
    return cfg.get('default_scope') or 'mmdet'


def find_device(name: str | None) -> torch.device:
    """The device of this name, or without a name the best there is.

    Raises:
        ValueError: this machine has no such device.
    """
    if name is None:
        return torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).sum().item()
    except (AssertionError, NotImplementedError, RuntimeError) as error:
        gpus = torch.cuda.device_count()
        raise ValueError(
            f'the device must be one of this machine, but got "{name}" '
            f'({str(error).splitlines()[0]}). There is cpu'
            f'{"".join(f", cuda:{number}" for number in range(gpus))}.'
        ) from None
    return device


def _prepared_by(cfg: Mapping[str, Any]) -> Mapping[str, Any]:
    """The data set whose pipeline prepares images."""
    own = [dict(pipeline=cfg['test_pipeline'])] if cfg.get('test_pipeline') else []
    for dataset in (*measured_sets(cfg), *own):
        return dataset
    raise ConfigError(
        'test_dataloader must have a data set with a pipeline, by which images are prepared, but '
        f'got {cfg.get("test_dataloader")!r:.80}. Add it to the config.'
    )
