"""Building a detector from a config, a config file or itself."""

import copy
from collections.abc import Mapping
from typing import Any, TypeAlias

from mmengine.config import ConfigDict
from mmengine.model import BaseModel
from mmengine.registry import DefaultScope
from mmrazor.registry import MODELS

from mmkd.config.read_config import read_config

Detector: TypeAlias = BaseModel | Mapping[str, Any] | str


def build_detector(source: Detector, what: str = 'detector') -> BaseModel:
    """Build a detector from a model config, a config file or itself.

    Names are looked up in the scope of the surrounding config (``default_scope``), in that of the
    file, or in mmdet's. Of a distillation config the student is built.

    Raises:
        FileNotFoundError, ValueError, TypeError: the file cannot be read, or has no ``model``;
            ``source`` is of no known kind.
    """
    if isinstance(source, BaseModel):
        return source
    scope = _surrounding_scope()
    if isinstance(source, str):
        config = read_config(source, what)
        if 'model' not in config:
            data = str(source).lower().endswith('.json')
            raise ValueError(
                f'{what} must be a config file with a "model", but "{source}" has only '
                f'{", ".join(config)}. Give the config that the detector was trained with.'
                + ' Of a file of detections give the list of COCO results alone.'
                * data
            )
        scope = config.get('default_scope', scope)
        source = config.model
    if not isinstance(source, Mapping):
        raise TypeError(
            f'{what} must be a model config, the path of a config file or a built model, '
            f'but got {type(source).__name__}.'
        )
    model: dict[str, Any] = ConfigDict(copy.deepcopy(source))  # some heads write into theirs
    while 'architecture' in model and 'distiller' in model:
        model = ConfigDict(model['architecture'])
    if not model.get('cfg_path'):
        model.setdefault('_scope_', scope)
    return MODELS.build(model)


def init_at_random(model: BaseModel) -> None:
    """Give an untrained teacher finite weights (L2Norm's are not, before), without a download."""
    for module in model.modules():
        init_cfg = getattr(module, 'init_cfg', None)
        if isinstance(init_cfg, Mapping) and init_cfg.get('type') == 'Pretrained':
            module.init_cfg = None
    model.init_weights()


def _surrounding_scope() -> str:
    # While the algorithm itself is built under ``_scope_='mmrazor'``, the current default scope is
    # mmrazor, where no detector is registered; the scope below it is the config's.
    scopes = [scope.scope_name for scope in DefaultScope._instance_dict.values()]
    return next(
        (scope for scope in reversed(scopes) if scope not in ('mmrazor', 'mmengine')), 'mmdet'
    )
