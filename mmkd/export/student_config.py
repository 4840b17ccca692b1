"""The config of a pair's student."""

from collections.abc import Mapping
from typing import Any

import mmengine.registry
import mmrazor.registry
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.registry import VISUALIZERS
from mmengine.visualization import Visualizer

from mmkd.config.key_finder import RUNNER_KEYS
from mmkd.config.pair_config import is_distillation
from mmkd.config.read_config import read_config
from mmkd.config.registered import registered


def student_config(config: Config) -> Config:
    """The student's own config: that of the pair, with the student for its model.

    Data, schedule and evaluation stay, so mmdet's own tools can test the student and go on training
    it. What belongs to the distillation, or to mmkd, does not: no type of mmkd is named, and of a
    pair's variables, which the rest is made of, none is left.
    """
    config = Config(config.to_dict()) if hasattr(config, 'to_dict') else Config(dict(config))
    while is_distillation(config):
        pair = config.pop('model')
        config.model = model_config(pair.architecture)
        for key in [key for key in config if key not in _READ]:
            config.pop(key)
    hooks = config.get('default_hooks') or {}
    for name in [name for name, hook in hooks.items() if _is_of_mmkd(hook)]:
        hooks.pop(name)
    if config.get('custom_hooks'):
        config.custom_hooks = [hook for hook in config.custom_hooks if not _is_of_mmkd(hook)]
    if _is_of_mmkd(config.get('optim_wrapper')):
        config.optim_wrapper.type = 'OptimWrapper'
    for key, own in (('val_cfg', 'ValLoop'), ('test_cfg', 'TestLoop')):
        if _is_of_mmkd(config.get(key)):  # as one that validates the teacher, too
            config[key].type = own
    if isinstance(config.get('custom_imports'), Mapping):
        _leave_out_imports(config)
    # DetInferencer and DetVisualizationHook draw with mmdet's own.
    if not _draws_detections(config):
        given = config.get('visualizer') or {}
        kept = {} if _is_of_mmkd(given) else given
        backends = kept.get('vis_backends') or [dict(type='LocalVisBackend')]
        config.visualizer = dict(type='mmdet.DetLocalVisualizer', vis_backends=backends)
    # How the run was started, and where from, is of no concern to the student.
    for key in ('load_from', 'resume', 'launcher'):
        config.pop(key, None)
    if _is_of_mmkd(config.get('runner_type')):
        config.pop('runner_type')
    return config


_PACKAGES = ('mmkd', 'mmrazor')
_REGISTRIES = [
    getattr(package.registry, name)
    for package in (mmengine, mmrazor)
    for name in ('HOOKS', 'LOOPS', 'OPTIM_WRAPPERS', 'RUNNERS', 'VISUALIZERS')
]


def _draws_detections(config: Config) -> bool:
    """Whether its visualizer does; mmengine's own, say, takes detections and draws nothing."""
    own = config.get('visualizer')
    if not own or _is_of_mmkd(own):
        return False
    drawing = registered(VISUALIZERS, own, config)
    return getattr(drawing, 'add_datasample', None) is not Visualizer.add_datasample


#: What mmengine and mmdet read beside the runner's arguments.
_READ = RUNNER_KEYS | {
    *('custom_imports', 'runner_type', 'tta_model', 'tta_pipeline', 'model_wrapper_cfg', 'sync_bn'),
    *('find_unused_parameters', 'activation_checkpointing', 'efficient_conv_bn_eval', 'compile'),
}


def _leave_out_imports(config: Config) -> None:
    named = config.custom_imports.get('imports') or []
    modules = [named] if isinstance(named, str) else named
    left = [module for module in modules if str(module).split('.')[0] not in _PACKAGES]
    if left:
        config.custom_imports.imports = left
    else:
        config.pop('custom_imports')


def _is_of_mmkd(part: Any) -> bool:
    """Whether mmdet alone lacks a hook, a loop, a runner or the like: its class tells.

    Args:
        part: its config, or the name of its class or the class itself.
    """
    kind = part.get('type') if isinstance(part, Mapping) else part
    found, homes = [kind], []
    if isinstance(kind, str):
        found = [known.module_dict.get(kind.split('.')[-1]) for known in _REGISTRIES]
        if not any(found):  # of a scope or a module that is not imported so far
            homes = [kind, str(part.get('_scope_')) if isinstance(part, Mapping) else '']
    homes += [getattr(cls, '__module__', '') for cls in found]
    return any(home.split('.')[0] in _PACKAGES for home in homes)


def model_config(source: Any) -> Any:
    """A detector's config, looked up in the scope of the file that it comes from.

    Args:
        source: the model's config, the path of a config file, one of an installed package
            (``mmdet::...``), or MMRazor's ``dict(cfg_path='mmdet::...')``.
    """
    if isinstance(source, Mapping) and source.get('cfg_path') and not source.get('type'):
        config = get_config(source['cfg_path'])
        changes = {k: v for k, v in source.items() if k not in ('cfg_path', 'pretrained')}
        if 'data_preprocessor' in config:  # mmengine's get_model gives it to the model, too
            config.model.data_preprocessor = config.data_preprocessor
        config.model = {**changes, **config.model}
    elif isinstance(source, str):
        config = read_config(source, 'a model')
    else:
        return source
    if 'default_scope' in config:
        config.model.setdefault('_scope_', config.default_scope)
    return config.model
