"""Whose keys a state dict has: a detector's own, wrapped ones, and state that is no weight."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

#: Where MMRazor's algorithms keep the student inside a distillation checkpoint.
STUDENT_PREFIX = 'architecture.'

#: Where a student may lie beside what trains it; the second is mmdet's semi-supervised way.
STUDENT_PREFIXES = (STUDENT_PREFIX, 'student.')

_EMA = 'ema_state_dict'

#: What averaged models count beside their weights: mmengine's, and torch's.
_COUNTERS = ('steps', 'n_averaged')

#: What fake quantisers are called in the module whose values they round.
QUANTIZERS = ('input_quantizer', 'weight_quantizer', 'output_quantizer')


def is_of_quantizer(key: str) -> bool:
    """Whether a key of a state dict is of a fake quantiser, which no plain detector has.

    >>> is_of_quantizer('backbone.conv1.input_quantizer.ranges')
    True
    """
    return key.rsplit('.', 2)[-2:-1] in ([name] for name in QUANTIZERS)


def with_state_dict(checkpoint: Any) -> Any:
    """A checkpoint with its weights under ``state_dict``.

    A mapping without this key is a bare state dict, or holds averaged weights alone
    (``ema_state_dict``). Where both are there, ``state_dict`` is taken: mmengine's EMAHook has put
    the averaged weights into it, since these are what it evaluates, and the others aside.
    """
    if not isinstance(checkpoint, Mapping):
        return checkpoint
    has = {key: _has_tensors(checkpoint.get(key)) for key in ('state_dict', _EMA)}
    if has[_EMA] and not has['state_dict']:
        print_log('The averaged weights (ema_state_dict) are taken, the only ones', 'current')
        return {**checkpoint, 'state_dict': checkpoint[_EMA]}
    if has[_EMA]:
        print_log('Of the file, state_dict is taken; ema_state_dict is left out', 'current')
    return checkpoint if 'state_dict' in checkpoint else {'state_dict': checkpoint}


def _has_tensors(weights: Any) -> bool:
    return isinstance(weights, Mapping) and any(map(torch.is_tensor, weights.values()))


def student_state_dict(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The plain detector inside ``state_dict``, under its own keys.

    A distillation checkpoint holds the student under ``architecture.`` beside connectors, mmdet's
    semi-supervised detectors under ``student.`` beside a teacher. What wrappers put around the keys
    is taken off: ``module.`` (DDP, averaged models), ``_orig_mod.`` (``torch.compile``). A plain
    state dict is returned as it is.
    """
    found = {str(key): value for key, value in state_dict.items()}
    while True:
        keys = list(found)
        found = {_uncompiled(key): value for key, value in found.items()}
        bare = _below('module.', found)
        if bare and all(key.startswith('module.') or key in _COUNTERS for key in found):
            found = bare
        for prefix in STUDENT_PREFIXES:
            student = _below(prefix, found)
            if student and len(student) < len(found):
                print_log(
                    f'The {len(student)} keys of the student ("{prefix}...") are taken of '
                    f'{len(found)}',
                    'current',
                )
            found = student or found
        if list(found) == keys:
            return found


def _below(prefix: str, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k[len(prefix) :]: v for k, v in state_dict.items() if k.startswith(prefix)}


def _uncompiled(key: str) -> str:
    return '.'.join(part for part in key.split('.') if part != '_orig_mod')


def averaged_twins(keys: Iterable[str]) -> list[str]:
    """Keys of mmdet 2.x's EMA hook: ``ema_backbone_conv1_weight`` beside ``backbone.conv1.weight``.

    The hook exchanges the two before it saves: the averaged weights lie under the real keys.

    Example:
        >>> averaged_twins(['a.weight', 'ema_a_weight', 'ema_b_weight'])
        ['ema_a_weight']
    """
    keys = list(keys)
    twins = {'ema_' + key.replace('.', '_') for key in keys}
    return [key for key in keys if key in twins]


def normalisation(state_dict: Mapping[str, Tensor], own: Iterable[str]) -> dict[str, str]:
    """Keys of mean and std of the images, which are settings of a config, not weights.

    Older mmdet and MMYOLO save ``data_preprocessor.mean``, Detectron2's layout has ``pixel_mean``.

    Args:
        state_dict: of a detector.
        own: the keys of the model, which are weights whatever their names.

    Returns:
        'mean' or 'std' by key.

    Example:
        >>> normalisation({'data_preprocessor.mean': torch.zeros(3, 1, 1)}, [])
        {'data_preprocessor.mean': 'mean'}
    """
    own, found = set(own), {}
    for key in [key for key in state_dict if key not in own]:
        owner, _, name = key.rpartition('.')
        pixel = name.startswith('pixel_')
        name = name.removeprefix('pixel_')
        of_images = owner.endswith('preprocessor') or (pixel and not owner)
        value = state_dict[key]
        small = torch.is_tensor(value) and value.numel() <= 4
        if of_images and name in ('mean', 'std') and small:
            found[key] = name
    return found


def name_the_students(state_dict: dict[str, Any], student: nn.Module, prefix: str = '') -> None:
    """Give the keys of a plain student (``load_from`` of mmdet) the pair's names, in place.

    Without that nothing would load, and mmengine would only warn.
    """
    named = prefix + STUDENT_PREFIX
    if not any(key.startswith(named) for key in state_dict):
        own = {prefix + key for key in student.state_dict()}
        for key in [key for key in state_dict if key in own]:
            state_dict[named + key[len(prefix) :]] = state_dict.pop(key)
