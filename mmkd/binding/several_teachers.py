"""A distiller's config for several teachers, made of what it is for each of them."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from mmrazor.registry import MODELS
from torch import nn

from mmkd.binding.arguments import class_of
from mmkd.binding.bind import bind
from mmkd.binding.class_feeds import map_of
from mmkd.connectors import SharedClasses, TaughtClasses
from mmkd.heads.class_map import ClassMap, ClassNames
from mmkd.rules.distiller_rules import check_alignment
from mmkd.rules.loss_rules import check_losses
from mmkd.rules.side import side_of
from mmkd.teachers.teacher_list import TeacherEntry


class Teacher(NamedTuple):
    """A built teacher of several."""

    entry: TeacherEntry
    model: nn.Module
    names: ClassNames | None


@dataclass
class Merged:
    """What the configs for several teachers became.

    Args:
        config: of a ``SeveralTeachersDistiller``.
        factors: of the losses of a single teacher, by name.
        names: by loss of the original config what it is called now.
        maps: by teacher which of its classes is which of the student's; None where they are the
            same, or are not compared.
    """

    config: dict[str, Any]
    factors: dict[str, float] = field(default_factory=dict)
    names: dict[str, list[str]] = field(default_factory=dict)
    maps: dict[str, ClassMap | None] = field(default_factory=dict)


def bind_several(distiller: Any, student: nn.Module, teachers: Sequence[Teacher]) -> Merged:
    """The distiller's config, completed for each teacher, checked, and merged into one.

    A loss becomes one for each teacher, with its name behind the loss's, and so do its recorders
    and connectors. Of teachers that share their classes it counts by the teacher's part of all
    weights, of others by the weight itself. A loss that says so in ``joins_teachers`` stays one
    and gets the rows of all: 'always', or where they share their classes ('shared').

    Args:
        distiller: the config.
        student: the built student.
        teachers: two or more.

    Raises:
        TypeError, ValueError: as :func:`mmkd.binding.bind` for one of them; a distiller of another
            kind, or with deliveries.
    """
    if not isinstance(distiller, Mapping) or distiller.get('type') != 'ConfigurableDistiller':
        kind = distiller.get('type') if isinstance(distiller, Mapping) else type(distiller).__name__
        raise ValueError(
            f'several teachers need the config of a ConfigurableDistiller, but got {kind}. Take '
            'one of _base_/methods/, or a single teacher.'
        )
    if distiller.get('distill_deliveries'):
        raise ValueError(
            'deliveries take values from a running teacher to the student, but there are several '
            'teachers. Take a method without distill_deliveries, or a single teacher.'
        )
    bound = [_bound(distiller, student, teacher) for teacher in teachers]
    merged = Merged({**bound[0], 'type': 'SeveralTeachersDistiller'})
    merged.config.update(teacher_recorders={}, connectors={}, distill_losses={}, owners={})
    merged.config['loss_forward_mappings'] = {}
    for teacher, config in zip(teachers, bound, strict=True):
        merged.maps[teacher.entry.name] = map_of(config)
        for name, recorder in (config.get('teacher_recorders') or {}).items():
            merged.config['teacher_recorders'][_of(name, teacher)] = recorder
            merged.config['owners'][_of(name, teacher)] = teacher.entry.name
    for loss in distiller.get('distill_losses') or {}:
        feeds = _joined(loss, teachers, bound)
        if feeds is None:
            _add_each(merged, loss, teachers, bound)
        else:
            _add_joined(merged, loss, bound, feeds)
    return merged


def _bound(distiller: Any, student: nn.Module, teacher: Teacher) -> Any:
    """The config for one teacher, checked as that of a single one is."""
    config = bind(distiller, student, teacher.model, teacher.names, teacher.entry.scale)
    built = MODELS.build({'_scope_': 'mmrazor', **copy.deepcopy(config)})
    check_alignment(built, student, teacher.model, teacher.entry.scale)
    check_losses(built, student, teacher.model)
    return config


def _add_each(merged: Merged, loss: str, teachers: Sequence[Teacher], bound: Sequence[Any]) -> None:
    total = sum(teacher.entry.weight for teacher in teachers)
    for teacher, config in zip(teachers, bound, strict=True):
        name = _of(loss, teacher)
        mapping = copy.deepcopy(config['loss_forward_mappings'][loss])
        for record in mapping.values():
            if side_of(record) == 'teacher':
                record['recorder'] = _of(record['recorder'], teacher)
            if record.get('connector'):
                own = _of(record['connector'], teacher)
                merged.config['connectors'][own] = config['connectors'][record['connector']]
                record['connector'] = own
        merged.config['distill_losses'][name] = config['distill_losses'][loss]
        merged.config['loss_forward_mappings'][name] = mapping
        merged.names.setdefault(loss, []).append(name)
        weight = teacher.entry.weight
        merged.factors[name] = weight / total if teacher.entry.classes is None else weight


def _of(name: str, teacher: Teacher) -> str:
    return f'{name}_{teacher.entry.name}'


def _joined(
    loss: str, teachers: Sequence[Teacher], bound: Sequence[Any]
) -> dict[str, list[dict[str, Any]]] | None:
    """By argument that the teachers feed what each gives; None where they are not joined."""
    when = getattr(class_of(bound[0]['distill_losses'][loss]), 'joins_teachers', '')
    if when != 'always' and not (when == 'shared' and teachers[0].entry.classes is None):
        return None
    feeds: dict[str, list[dict[str, Any]]] = {}
    for teacher, config in zip(teachers, bound, strict=True):
        for argument, record in config['loss_forward_mappings'][loss].items():
            if side_of(record) == 'student':
                continue
            recorder = config['teacher_recorders'][record['recorder']]
            chain = list(_chain(config, record.get('connector')))
            links = [link for link in chain if class_of(link) is TaughtClasses]
            if recorder.get('type') != 'Predictions' or len(chain) > len(links):
                return None
            link = dict(links[0], shared=False) if links else None
            feed = dict(
                recorder=_of(record['recorder'], teacher),
                weight=teacher.entry.weight,
                taught=link and link['taught'],
                link=link,
            )
            feed.update({k: record[k] for k in ('record_idx', 'data_idx') if k in record})
            feeds.setdefault(argument, []).append(feed)
    return feeds


def _add_joined(
    merged: Merged, loss: str, bound: Sequence[Any], feeds: Mapping[str, list[dict[str, Any]]]
) -> None:
    config = bound[0]
    known = [feed['taught'] for of_argument in feeds.values() for feed in of_argument]
    taught = None if None in known else [any(of_class) for of_class in zip(*known, strict=True)]
    mapping = copy.deepcopy(config['loss_forward_mappings'][loss])
    columns = None
    for argument, record in mapping.items():
        if side_of(record) != 'student':
            continue
        links = _links_of(loss, argument, bound)
        chain = [c for c in _chain(config, record.pop('connector', None)) if c not in links]
        if links and taught is not None and not all(taught):
            chain = [dict(links[0], matched=taught, taught=taught), *chain]
            if _keeps_columns(config, record):
                columns = [place for place, is_taught in enumerate(taught) if is_taught]
        if chain:
            own = f'{loss}_{argument}'
            merged.config['connectors'][own] = chain if len(chain) > 1 else chain[0]
            record['connector'] = own
    for argument, of_argument in feeds.items():
        own = f'{loss}_{argument}'
        merged.config['teacher_recorders'][own] = dict(
            type='Joined', feeds=of_argument, columns=columns
        )
        mapping[argument] = dict(recorder=own, from_student=False)
    merged.config['distill_losses'][loss] = config['distill_losses'][loss]
    merged.config['loss_forward_mappings'][loss] = mapping
    merged.names[loss] = [loss]


def _links_of(loss: str, argument: str, bound: Sequence[Any]) -> list[Any]:
    """What brings the student's record to the classes that each of the teachers knows."""
    chains = [
        _chain(config, config['loss_forward_mappings'][loss][argument].get('connector'))
        for config in bound
    ]
    return [link for chain in chains for link in chain if class_of(link) is SharedClasses]


def _keeps_columns(config: Mapping[str, Any], record: Mapping[str, Any]) -> bool:
    """Whether the student's record is one of rows, and not a pass of its own loss."""
    return bool(config['student_recorders'][record['recorder']].get('type') != 'LossPass')


def _chain(config: Mapping[str, Any], connector: str | None) -> Iterator[Any]:
    found = (config.get('connectors') or {}).get(connector) if connector else None
    yield from found if isinstance(found, list | tuple) else [] if found is None else [found]
