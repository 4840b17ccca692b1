"""What a cache depends on, in parts, so that an error can name the part that differs."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mmkd.teachers.several import FrozenTeachers


def digest(value: Any) -> str:
    """SHA-256 of a value of lists, dicts, numbers and strings."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def teacher_key(teacher: Any) -> dict[str, str]:
    """The teacher with its weights, and what it sees of a student's batch; or each of several.

    Those that are known by their detections are none of a cache's.
    """
    if isinstance(teacher, FrozenTeachers):
        keys = {name: teacher_key(part) for name, part in teacher.networks.parts.items()}
        whole: dict[str, dict[str, str]] = {}
        for name, key in keys.items():
            for part, value in key.items():
                whole.setdefault(part, {})[name] = value
        return {part: digest(values) for part, values in whole.items()}
    weights = hashlib.sha256(repr(teacher.model).encode())
    for name, value in sorted(teacher.model.state_dict().items()):
        weights.update(name.encode())
        # As bytes, since NumPy has no bfloat16.
        weights.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    translation = {
        name: value.tolist() if hasattr(value, 'tolist') else value
        for name, value in vars(teacher.translation).items()
    }
    if teacher.scale != 1:
        translation['scale'] = teacher.scale
    own = _preprocessing(teacher.model.data_preprocessor)
    return {
        'teacher weights': weights.hexdigest(),
        'preprocessing': digest([translation, own]),
    }


def _preprocessing(preprocessor: nn.Module) -> list[Any]:
    buffers = {name: value.tolist() for name, value in preprocessor.named_buffers()}
    settings = {k: v for k, v in vars(preprocessor).items() if isinstance(v, int | float | bool)}
    return [type(preprocessor).__name__, buffers, {**settings, 'training': None}]


def data_key(config: Any, dataset: Any, views: int, seed: int) -> dict[str, str]:
    """The pipeline, the views that it is asked for, and the images with their objects.

    No part holds a folder: data may move.
    """
    images = hashlib.sha256()
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        name = Path(info.get('img_path', '')).name
        images.update(repr((info.get('img_id'), name, info.get('instances'))).encode())
    return {
        'pipeline': digest(_without_folders(config)),
        'views and seed': f'{views}, {seed}',
        'images': images.hexdigest(),
    }


def _without_folders(config: Any) -> Any:
    if isinstance(config, Mapping):
        place = ('data_root', 'data_prefix', 'ann_file', 'backend_args')
        return {k: _without_folders(v) for k, v in config.items() if k not in place}
    if isinstance(config, list | tuple):
        return [_without_folders(item) for item in config]
    return config


def check_key(folder: str | Path, kept: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Check the parts of ``own`` against the key of the cache in ``folder``.

    Raises:
        ValueError: a part differs.
    """
    differing = [part for part, value in own.items() if kept.get(part) != value]
    if differing:
        raise ValueError(
            f'a teacher cache must have been filled with the same {", ".join(own)}, but that in '
            f'{folder} differs in: {", ".join(differing)}. Fill another with '
            '"mmkd cache", or take back the change.'
        )
