"""Whether a model predicts as many classes as the data has."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmengine.config import Config
from mmengine.registry import MODELS

from mmkd.config.given_teacher import is_given
from mmkd.config.names import first_of
from mmkd.config.pair_config import is_distillation
from mmkd.config.read_config import read_config

#: Parts whose number of classes is another: of objects and background, of stuff, of identities.
_OTHER = ('rpn_head', 'semantic_head', 'backbone', 'reid', 'language_model')


def check_class_counts(cfg: Config, classes: Sequence[str]) -> list[str]:
    """Check ``num_classes`` anywhere in the model against the data set's classes.

    That of a pair's teacher may be another where only features are distilled: where its
    predictions are compared with the student's, the algorithm itself asks for equal classes.

    Args:
        cfg: config of the run.
        classes: of the data sets.

    Returns:
        A line on a teacher of other classes, for the log.

    Raises:
        ValueError: a part of the model has another number; the message names its key.
    """
    model, scope = cfg.get('model'), cfg.get('default_scope')
    if not isinstance(model, Mapping):
        return []
    if not is_distillation(cfg):
        _refuse(class_counts(model, scope, 'model'), classes)
        return []
    student = model['architecture']
    _refuse(class_counts(student, scope, 'model.architecture'), classes)
    teacher = model.get('teacher')
    entries = teacher if isinstance(teacher, list | tuple) else [dict(model=teacher)]
    of_teacher = [
        count
        for i, entry in enumerate(entries)
        for count in class_counts(
            entry.get('model'),
            scope,
            'model.teacher' if len(entries) == 1 else f'model.teacher[{i}]',
        )
    ]
    other = [f'{key}={count}' for key, count in of_teacher if count != len(classes)]
    counts = {len(classes), *(count for _, count in of_teacher)}
    losses = (model.get('distiller') or {}).get('distill_losses')
    for key, count in _written(losses, 'model.distiller.distill_losses'):
        if count not in counts:
            _refuse([(key, count)], classes)
    if not other:
        return []
    return [
        f'the teacher predicts other classes than the {len(classes)} of the data '
        f'({first_of(other, 3)}): their names tell which are taught'
    ]


def _refuse(counts: Iterator[tuple[str, int]] | Sequence[Any], classes: Sequence[str]) -> None:
    wrong = [(key, count) for key, count in counts if count != len(classes)]
    if wrong:
        key, count = wrong[0]
        more = f', and {len(wrong) - 1} more parts likewise' if len(wrong) > 1 else ''
        raise ValueError(
            f'{key} must be the number of classes of the data, {len(classes)} '
            f'({first_of(classes)}), but is {count}{more}. '
            f'Set it to {len(classes)}, or correct metainfo.classes.'
        )


def class_counts(model: Any, scope: str | None, where: str) -> list[tuple[str, int]]:
    """Key and value of each ``num_classes`` in a detector's config, defaults of types included.

    Args:
        model: config of a detector, or the path of a config file that has one.
        scope: in which its types are looked up.
        where: its key.

    Example:
        >>> class_counts(dict(bbox_head=dict(num_classes=3)), None, 'model')
        [('model.bbox_head.num_classes', 3)]
    """
    if is_given(model):
        return []  # its classes are known by their names
    if isinstance(model, str):
        config = read_config(model, where)
        model, scope = config.get('model'), config.get('default_scope', scope)
    if not isinstance(model, Mapping) or 'language_model' in model:
        return []  # a detector of free text has no fixed classes
    with MODELS.switch_scope_and_registry(model.get('_scope_', scope)) as registry:
        return list(_counts(model, where, registry))


def _counts(node: Any, where: str, registry: Any) -> Iterator[tuple[str, int]]:
    if isinstance(node, list | tuple):
        for index, item in enumerate(node):
            yield from _counts(item, f'{where}[{index}]', registry)
    if not isinstance(node, Mapping):
        return
    if not node.get('class_agnostic'):  # a mask head of one class for all
        count = node.get('num_classes', _default(node.get('type'), registry))
        if isinstance(count, int):
            yield f'{where}.num_classes', count
    for key, value in node.items():
        if key not in _OTHER:
            yield from _counts(value, f'{where}.{key}', registry)


def _written(node: Any, where: str) -> Iterator[tuple[str, int]]:
    for name, loss in (node or {}).items():
        if isinstance(loss, Mapping) and isinstance(loss.get('num_classes'), int):
            yield f'{where}.{name}.num_classes', loss['num_classes']


def _default(kind: Any, registry: Any) -> int | None:
    """What a type's ``num_classes`` is when its config does not say."""
    kind = registry.get(kind) if isinstance(kind, str) else kind
    for base in getattr(kind, '__mro__', ()):
        if '__init__' in vars(base):
            parameters = inspect.signature(base.__init__).parameters
            if 'num_classes' in parameters:
                default = parameters['num_classes'].default
                return default if isinstance(default, int) else None
            if all(p.kind is not p.VAR_KEYWORD for p in parameters.values()):
                return None  # hands nothing on
    return None
