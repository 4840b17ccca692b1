"""mmdet's own detectors on a narrow ResNet-18, for three classes."""

import copy
import functools

from mmengine.config import ConfigDict
from mmengine.hub import get_config


@functools.cache
def _whole(name: str) -> ConfigDict:
    return get_config(f'mmdet::{name}.py').model


def small(name: str, **changes) -> dict:
    """The model of ``mmdet::NAME.py``; ``changes`` are merged into it."""
    model = copy.deepcopy(_whole(name))
    for key, value in dict(
        num_classes=3, max_per_img=20, num=16, fc_out_channels=16, stacked_convs=1
    ).items():
        _set(model, key, value)
    indices = model.backbone.get('out_indices', (1, 2, 3))
    if 'CSP' in model.backbone.type:  # whose stages are counted from the stem
        indices = (1, 2, 3)
    model.backbone = ConfigDict(type='ResNet', depth=18, base_channels=8, out_indices=indices)
    if 'neck' in model:
        model.neck.in_channels = [8 * 2**i for i in indices]
    for part in ('encoder', 'decoder'):
        if part in model:
            model[part].num_layers = 2
    model.update(changes)
    return model


def _set(config, key, value) -> None:
    if isinstance(config, dict):
        if key in config:
            config[key] = value
        for item in config.values():
            _set(item, key, value)
    elif isinstance(config, list | tuple):
        for item in config:
            _set(item, key, value)
