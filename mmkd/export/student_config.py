"""The config of a pair's student."""

from collections.abc import Mapping
from inspect import signature
from typing import Any

from mmengine.config import Config
from mmengine.registry import HOOKS, OPTIM_WRAPPERS
from mmrazor.registry import HOOKS as RAZOR_HOOKS

from mmkd.algorithms.detection_distill import DetectionDistill
from mmkd.config.key_finder import RUNNER_KEYS, dicts
from mmkd.config.pair_config import is_distillation
from mmkd.config.read_config import read_config


def student_config(config: Config) -> Config:
    """The student's own config: that of the pair, with the student for its model.

    Everything else (data, schedule, evaluation) stays, so mmdet's own tools can test the student
    and go on training it. What belongs to the distillation, or to mmkd, does not: no type of mmkd
    is named.
    """
    config = Config(config.to_dict()) if hasattr(config, 'to_dict') else Config(dict(config))
    while is_distillation(config):
        pair = config.pop('model')
        for key in [key for key in config if key not in RUNNER_KEYS]:
            if key in _ARGUMENTS or _is_of_pair(config[key], pair):
                config.pop(key)
        student = pair.architecture
        config.model = (
            read_config(student, 'architecture').model if isinstance(student, str) else student
        )
    hooks = config.get('default_hooks') or {}
    for name in [name for name, hook in hooks.items() if _is_of_mmkd(hook)]:
        hooks.pop(name)
    if config.get('custom_hooks'):
        config.custom_hooks = [hook for hook in config.custom_hooks if not _is_of_mmkd(hook)]
    if _is_of_mmkd(config.get('optim_wrapper')):
        config.optim_wrapper.type = 'OptimWrapper'
    # DetInferencer and DetVisualizationHook draw with mmdet's own.
    if not config.get('visualizer'):
        backends = [dict(type='LocalVisBackend')]
        config.visualizer = dict(type='mmdet.DetLocalVisualizer', vis_backends=backends)
    # How the run was started, and where from, is of no concern to the student.
    for key in ('load_from', 'resume', 'launcher'):
        config.pop(key, None)
    if str(config.get('runner_type')).split('.')[-1] == 'ExactRunner':
        config.pop('runner_type')
    return config


#: A variable of a config that is named like one belongs to the distillation.
_ARGUMENTS = set(signature(DetectionDistill).parameters) - {'kwargs'}


def _is_of_pair(value: Any, pair: Mapping) -> bool:
    """Whether a pair is built from this variable: its student, or a dict inside its distiller."""
    if not isinstance(value, Mapping) or not value:
        return False
    inside = dicts([pair.get('distiller'), pair.get('balance')])
    return value == pair['architecture'] or any(
        all(key in node and node[key] == item for key, item in value.items()) for node in inside
    )


def _is_of_mmkd(part: Any) -> bool:
    """Whether a hook or an optimizer wrapper is what mmdet alone does not have."""
    kind = part.get('type') if isinstance(part, Mapping) else None
    if isinstance(kind, str):
        name = kind.split('.')[-1]
        found = [
            registry.module_dict.get(name) for registry in (HOOKS, OPTIM_WRAPPERS, RAZOR_HOOKS)
        ]
        return any(map(_comes_from_here, found))
    return _comes_from_here(kind)


def _comes_from_here(kind: Any) -> bool:
    return getattr(kind, '__module__', '').split('.')[0] in ('mmkd', 'mmrazor')
