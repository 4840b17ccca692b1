"""Losses that compare classes get those that both models have, where the names differ."""

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from mmdet.models.dense_heads import YOLOV3Head
from mmengine.logging import print_log
from mmrazor.registry import TASK_UTILS
from torch import nn

from mmkd.binding.arguments import class_of
from mmkd.config.names import first_of
from mmkd.connectors import SplitPredMaps, TaughtClasses
from mmkd.heads import describe_head
from mmkd.heads.class_map import ClassMap, ClassNames
from mmkd.rules.side import SIDES, side_of
from mmkd.rules.taps import Tap, tap

#: Recorders whose records hold scores of each class, whatever is taken of them.
_ROWS = ('Predictions', 'Queries')
_INSTEAD = (
    'Take a method that compares predictions (prediction_rows, soft_ground_truth), or one of '
    'features'
)


class _Feed(NamedTuple):
    """An argument of a loss that holds scores of classes."""

    loss: str
    argument: str
    side: str
    kind: str  # 'rows', 'towers', 'own pass' of a student, 'maps', or 'closed' of an unknown form
    head: Any  # as described, None where nothing is known


def map_classes(
    config: Any, student: nn.Module, teacher: nn.Module, names: ClassNames
) -> ClassMap | None:
    """Put connectors in front of what holds scores of classes; see docs/any_teacher.md.

    Args:
        config: of the distiller, checked, changed in place.
        student: the built student.
        teacher: the built teacher.
        names: of the classes of both.

    Returns:
        The map; None where both have the same classes in the same order, or no loss looks at them.

    Raises:
        TypeError, ValueError: as :meth:`ClassMap.from_names`; a loss compares classes in a form in
            which they cannot be mapped.
    """
    told = names.class_map is not None or names.only is not None
    if not told and tuple(names.teacher) == tuple(names.student):
        return None
    models = dict(zip(SIDES, (student, teacher), strict=True))
    feeds = {
        loss: list(_feeds(loss, config, models)) for loss in config.get('distill_losses') or {}
    }
    feeds = {
        loss: found for loss, found in feeds.items() if any(f.side == 'teacher' for f in found)
    }
    maps = [
        recorder
        for recorder in (config.get('teacher_recorders') or {}).values()
        if recorder.get('type') == 'ScoreMaps'
    ]
    if not feeds and not told and (not maps or not names.alike):
        return None  # a teacher of features alone may know what it will
    classes = names.map()
    taught = names.taught(classes)
    if classes.identity and all(taught):
        return None
    for line in tell(classes):
        print_log(f'class_map: {line}', 'current')
    heard = [t for t, s in enumerate(classes.places) if s is not None and taught[s]]
    for recorder in maps if len(heard) < len(classes.teacher) else ():
        recorder.setdefault('classes', heard)
    for found in feeds.values():
        shared = any(f.kind == 'towers' or (f.side, f.kind) == ('student', 'rows') for f in found)
        for feed in found:
            _check(feed, classes, taught)
            link = _link(feed, classes, taught, shared)
            if link is not None:
                _put_in_front(config, feed, link)
    return classes


def _link(
    feed: _Feed, classes: ClassMap, taught: list[bool], shared: bool
) -> dict[str, Any] | None:
    softmax = feed.head is not None and feed.head.sigmoid is False
    if feed.side == 'teacher':
        said = dict(zip(classes.teacher, classes.partners_of_teacher(), strict=True))
        return dict(
            type='TaughtClasses',
            teacher_classes=list(classes.teacher),
            student_classes=list(classes.student),
            class_map=said,
            softmax=softmax,
            taught=taught,
            shared=shared,
            activated=feed.head is not None and feed.head.probabilities,
        )
    if feed.kind in ('rows', 'own pass') and not all(taught):
        matched = classes.matched.tolist()
        return dict(type='SharedClasses', matched=matched, taught=taught, softmax=softmax)
    return None


def map_of(config: Any) -> ClassMap | None:
    """The map that a bound config works with; None where both models' classes are the same."""
    links = config.get('connectors') or {} if isinstance(config, Mapping) else {}
    for name in links:
        for link in _chain(config, name):
            if class_of(link) is TaughtClasses:
                return ClassMap.from_names(
                    link['teacher_classes'], link['student_classes'], link['class_map']
                )
    return None


def tell(classes: ClassMap) -> list[str]:
    """What there is to say of a map: what is left out, and what else may be meant."""
    lines = []
    if classes.untaught:
        lines.append(
            "of the student's classes the teacher does not know "
            f'{first_of(classes.untaught, 10)}: they are left out of the distillation losses'
        )
    if classes.unheard:
        lines.append(
            "of the teacher's classes the student does not know "
            f'{first_of(classes.unheard, 10)}: they are left out'
        )
    if classes.spelled():
        lines.append(f'names are compared letter by letter{classes.spelled()}')
    return lines


def _count_known_classes(config: Any, classes: ClassMap) -> None:
    """The teacher's highest score is that of a class that the student has."""
    heard = [t for t, place in enumerate(classes.places) if place is not None]
    for recorder in (config.get('teacher_recorders') or {}).values():
        if recorder.get('type') == 'ScoreMaps' and classes.unheard:
            recorder.setdefault('classes', heard)


def _feeds(
    loss: str, config: Mapping[str, Any], models: Mapping[str, nn.Module]
) -> Iterator[_Feed]:
    for argument, record in ((config.get('loss_forward_mappings') or {}).get(loss) or {}).items():
        side = side_of(record)
        recorder = (config.get(f'{side}_recorders') or {})[record['recorder']]
        built = TASK_UTILS.build(
            {'_scope_': 'mmrazor', **recorder, 'type': f'{recorder["type"]}Recorder'}
        )
        found = tap(models[side], built)
        kind = _kind(str(recorder['type']), found, record, side, models[side])
        if kind in ('maps', 'closed') and isinstance(found.head, YOLOV3Head):
            kind = 'maps' if _splits(_chain(config, record.get('connector'))) else 'closed'
        if kind:
            known = None if found.head is None else describe_head(found.head)
            yield _Feed(loss, argument, side, kind, known)


def _kind(recorder: str, found: Tap, record: Mapping[str, Any], side: str, model: nn.Module) -> str:
    if recorder == 'Towers':  # of the student's the maps alone are taken
        return 'towers' if side == 'teacher' else ''
    if recorder in _ROWS:
        return 'rows'
    if recorder == 'LossPass':
        return 'own pass'
    if found.head is None or recorder not in ('ModuleOutputs', 'MethodOutputs'):
        return ''
    part = found.of(record.get('data_idx'))
    if part in ('outputs', 'cls'):
        return 'maps'
    if part == 'all':
        return 'closed'
    if part or not recorder.startswith('Module'):
        return ''
    module = model.get_submodule(found.source)
    width = getattr(module, 'out_features', None)  # of a RoI head's or a DETR's classifier
    name = found.source.rpartition('.')[2]
    own = width == describe_head(found.head).class_channels and re.search('cls|class', name)
    return 'closed' if own else ''


def _check(feed: _Feed, classes: ClassMap, taught: list[bool]) -> None:
    where = f'loss_forward_mappings.{feed.loss}.{feed.argument}'
    if feed.side == 'student':
        return
    if feed.kind == 'closed':
        raise ValueError(
            f'{where} must hold classes that can be told apart, since those of teacher and student '
            f'differ, but it is one map or vector of them and more. {_INSTEAD}.'
        )
    if feed.kind == 'maps' and not all(taught):
        lost = [name for name, known in zip(classes.student, taught, strict=True) if not known]
        raise ValueError(
            f"{where} are the teacher's class maps, in which each class of the student must have a "
            f'partner, but the teacher teaches nothing of {first_of(lost, 10)}{classes.spelled()}. '
            f'{_INSTEAD}.'
        )


def _put_in_front(config: Any, feed: _Feed, link: Mapping[str, Any]) -> None:
    mappings = config['loss_forward_mappings']
    record = mappings[feed.loss][feed.argument]
    before = record.get('connector')
    chain = copy.deepcopy(_chain(config, before))  # each side is filled in by its own head
    place = 1 if _splits(chain) else 0
    chain = [*chain[:place], dict(link), *chain[place:]]
    name = f'{feed.loss}_{feed.argument}_classes'
    config['connectors'] = config.get('connectors') or {}
    config['connectors'][name] = chain if len(chain) > 1 else chain[0]
    record['connector'] = name
    used = {r.get('connector') for mapping in mappings.values() for r in mapping.values()}
    if before and before not in used:
        del config['connectors'][before]


def _splits(chain: Sequence[Any]) -> bool:
    return bool(chain) and class_of(chain[0]) is SplitPredMaps


def _chain(config: Mapping[str, Any], connector: str | None) -> list[Any]:
    found = (config.get('connectors') or {}).get(connector) if connector else None
    return [*found] if isinstance(found, list | tuple) else [] if found is None else [found]
