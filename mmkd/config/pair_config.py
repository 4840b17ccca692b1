"""The config of a pair: how it is written, and whether a config is one."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.config import Config

#: What a method brings beside recorders, connectors, losses and mappings.
_OF_METHOD = ('student_loss_weights', 'balance', 'distiller')


def is_distillation(config: Config) -> bool:
    """Whether a config's model is a distillation algorithm with a student inside."""
    return isinstance(config.get('model'), dict) and 'architecture' in config.model


def pair(
    base: Mapping[str, Any],
    teacher: str | Mapping[str, Any] | Sequence[Mapping[str, Any]],
    teacher_ckpt: str | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """The model of a pair, made of what its config inherits.

    Args:
        base: ``_base_`` of the config, which inherits the student and a method of
            ``_base_/methods/``: its ``model`` is the student.
        teacher: as for :class:`mmkd.algorithms.DetectionDistill`; a list of dicts for several.
        teacher_ckpt: likewise. Defaults to None: of several each entry has its own, and a teacher
            that is known by its detections has none.
        settings: further arguments of ``DetectionDistill``, before those of the method. Here
            ``lean_teacher`` is 'auto' by default.

    Returns:
        dict: as it stands in a config, which it replaces the inherited ``model`` of.

    Raises:
        ValueError: the config inherits no student, a pair for a student, or no method.

    Example:
        >>> base = dict(model=dict(type='FCOS'), distiller=dict(type='ConfigurableDistiller'))
        >>> pair(base, 'teacher.py', 'teacher.pth')['architecture']
        {'type': 'FCOS'}
    """
    student = base.get('model')
    if not isinstance(student, Mapping) or 'architecture' in student:
        raise ValueError(
            "_base_ must have the student's config, whose model is a detector, but its model is "
            f'{"a pair" if student else "missing"}. Name the config of the student in _base_.'
        )
    if 'distiller' not in {**base, **settings}:
        raise ValueError(
            '_base_ must have a method of _base_/methods/, which brings the distiller, but got '
            f'{", ".join(base)}. Add one: "mmkd pair --list" shows them.'
        )
    return {
        '_delete_': True,
        '_scope_': 'mmrazor',
        'type': 'DetectionDistill',
        'architecture': student,
        'teacher': teacher,
        'teacher_ckpt': teacher_ckpt,
        'lean_teacher': 'auto',
        **{key: base[key] for key in _OF_METHOD if base.get(key)},
        **settings,
    }


def set_classes(model: Mapping[str, Any], count: int) -> None:
    """Give a detector's config another number of classes, wherever it states the present one.

    Args:
        model: a config of a detector, changed in place; in a config ``_base_.model``.
        count: the number of classes.

    Example:
        >>> model = dict(rpn_head=dict(num_classes=1), bbox_head=dict(num_classes=80))
        >>> set_classes(model, 3)
        >>> model
        {'rpn_head': {'num_classes': 1}, 'bbox_head': {'num_classes': 3}}
    """
    present = stated_classes(model)
    for part in _parts(model):
        if part.get('num_classes') == present and present is not None:
            part['num_classes'] = count


def stated_classes(model: Mapping[str, Any]) -> int | None:
    """How many classes a detector's config states: the first of its heads' ``num_classes``."""
    for head in ('roi_head', 'bbox_head', 'panoptic_head', 'mask_head'):
        for part in _parts(model.get(head)):
            if isinstance(part.get('num_classes'), int):
                return int(part['num_classes'])
    return None


def _parts(node: Any) -> Any:
    if isinstance(node, dict):
        yield node
        node = list(node.values())
    if isinstance(node, list | tuple):
        for item in node:
            yield from _parts(item)
