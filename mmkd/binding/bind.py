"""A distiller's config, completed by what its two models tell."""

import copy
import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from mmengine.config import ConfigDict
from mmengine.logging import print_log
from torch import nn

from mmkd.binding.arguments import class_of, declared, from_models, left_out
from mmkd.binding.class_feeds import map_classes
from mmkd.binding.facts import Fed, Models
from mmkd.binding.shared_levels import Cuts, level_cuts, take_levels
from mmkd.connectors import TaughtClasses
from mmkd.heads.class_map import ClassNames
from mmkd.losses.each_level import EachLevel
from mmkd.losses.fine_grained_imitation import FineGrainedImitation
from mmkd.rules.distiller_rules import check_distiller
from mmkd.rules.loss_facts import NEEDS
from mmkd.rules.paired_arguments import paired_arguments
from mmkd.rules.side import SIDES, side_of


def bind(
    distiller: Any,
    student: nn.Module,
    teacher: nn.Module,
    names: ClassNames | None = None,
    scale: float = 1.0,
) -> Any:
    """Check a distiller's config, and complete it by what the two models tell.

    Filled in is what the config leaves out: the ``source`` of a ``ModuleOutputs`` recorder (the
    neck, or the backbone of a model without one), and each argument of a loss or connector that
    is a fact of the models (:func:`mmkd.binding.arguments.from_models`). What it states, stays.

    Args:
        distiller: the config, which is not changed; a built distiller is returned as it is.
        student: the built student.
        teacher: the built teacher.
        names: of their classes. Where these differ, what compares them gets those that both have:
            :func:`mmkd.binding.class_feeds.map_classes`. Defaults to None, not known.
        scale: of the image that the teacher sees, by that of the student's. Defaults to 1.0.

    Raises:
        TypeError, ValueError: :func:`mmkd.rules.distiller_rules.check_distiller` refuses it, or it
            states other channels than those of the maps that a connector is fed.
    """
    if not isinstance(distiller, Mapping):
        check_distiller(distiller, student, teacher)
        return distiller
    config: Any = ConfigDict(copy.deepcopy(distiller))
    for side, model in zip(SIDES, (student, teacher), strict=True):
        for recorder in _dict(config.get(f'{side}_recorders')).values():
            if not isinstance(recorder, dict):
                continue  # the check tells
            if recorder.get('type') == 'ModuleOutputs' and not recorder.get('source'):
                has_neck = getattr(model, 'neck', None) is not None
                recorder['source'] = 'neck' if has_neck else 'backbone'
    check_distiller(config, student, teacher)
    if names is not None:
        map_classes(config, student, teacher, names)
    models = Models(student, teacher, config, scale)
    cuts = level_cuts(config, models)
    filled = [*_fill_losses(config, models), *_fill_connectors(config, models, cuts)]
    if filled:
        print_log(f'from the two models: {", ".join(filled)}', 'current')
    take_levels(config, cuts)
    return config


def _fill_losses(config: Any, models: Models) -> Iterator[str]:
    mappings = _dict(config.get('loss_forward_mappings'))
    for name, settings in _dict(config.get('distill_losses')).items():
        mapping = _dict(mappings.get(name))
        pairs = [pair for pair in paired_arguments(mapping) if _own(mapping, pair[0])]
        fed = [key for key in mapping if _own(mapping, key)]
        first = pairs[0][0] if pairs else next(iter(fed), None)
        own = Fed('student', mapping[first] if first else {})
        other = Fed('teacher', mapping[pairs[0][1]]) if pairs else None
        _check_towers(f'distill_losses.{name}', settings, models, own, other)
        yield from _fill(f'distill_losses.{name}', settings, models, own, other)


def _fill_connectors(config: Any, models: Models, cuts: Cuts) -> Iterator[str]:
    for name, settings in _dict(config.get('connectors')).items():
        chain = settings if isinstance(settings, list | tuple) else [settings]
        uses = list(_uses(name, config, cuts))
        if not uses:
            continue
        fed, other, _ = uses[0]
        for place, link in enumerate(chain):
            where = f'connectors.{name}' if len(chain) == 1 else f'connectors.{name}[{place}]'
            if place == 0:
                for use in uses:
                    _check_channels(where, link, 'channels', use.own, models)
            if place == len(chain) - 1:
                for use in uses:
                    if use.other and 'connector' not in use.other.record and use.compares:
                        _check_channels(where, link, 'counterpart_channels', use.other, models)
            yield from _fill(where, link, models, fed, other)
            if 'counterpart_channels' in from_models(class_of(link)).values():
                fed = other or fed  # what comes next gets the channels of the other side
            if class_of(link) is TaughtClasses:
                fed = other or Fed('student', {})  # and here the classes


class _Use(NamedTuple):
    """A record that a mapping sends through a connector."""

    own: Fed
    other: Fed | None  # its counterpart
    compares: bool  # whether the loss needs equal channels of both


def _uses(connector: str, config: Any, cuts: Cuts) -> Iterator[_Use]:
    losses = _dict(config.get('distill_losses'))
    for loss, mapping in _dict(config.get('loss_forward_mappings')).items():
        partner = dict(paired_arguments(mapping))
        partner.update({second: first for first, second in partner.items()})
        for argument, record in mapping.items():
            if record.get('connector') == connector:
                other = partner.get(argument)
                yield _Use(
                    _fed(record, cuts.get((loss, argument))),
                    _fed(mapping[other], cuts.get((loss, other))) if other else None,
                    _compares_channels(losses.get(loss)),
                )


def _fed(record: Mapping[str, Any], levels: Sequence[int] | None) -> Fed:
    return Fed(side_of(record), record, levels)


def _own(mapping: Mapping[str, Any], argument: str) -> bool:
    return bool(mapping[argument]['from_student'])


def _fill(where: str, settings: Any, models: Models, own: Fed, other: Fed | None) -> Iterator[str]:
    cls = class_of(settings)
    for argument, fact in from_models(cls).items():
        given = settings.get(argument)
        partial = isinstance(given, Mapping) and given and 'type' not in given
        partial = partial and declared(cls) is not None
        if not left_out(cls, settings, argument) and not partial:
            continue
        value = models.fact(fact, own, other)
        if value is None:
            continue
        settings[argument] = _with_changes(value, given) if partial else value
        shown = value if isinstance(value, int | str | list) else type(value).__name__
        yield f'{where}.{argument}={shown}'


def _with_changes(part: Any, changes: Mapping[str, Any]) -> Mapping[str, Any]:
    """The config of a built part in which a config without ``type`` changes some settings."""
    parameters = inspect.signature(type(part)).parameters.values()
    needed = {p.name: getattr(part, p.name) for p in parameters if p.default is p.empty}
    return {'type': type(part), **needed, **changes}


def _check_channels(where: str, settings: Any, fact: str, fed: Fed, models: Models) -> None:
    """A connector that states the channels of one side must state those that this side gives."""
    cls = class_of(settings)
    for argument, known in (declared(cls) or {}).items():
        if known != fact or left_out(cls, settings, argument):
            continue
        given, found = settings[argument], models.fact('channels', fed, None)
        levels = found if isinstance(found, list) else [found]
        stated = list(given) if isinstance(given, list | tuple) else [given] * len(levels)
        if found is not None and stated != levels:
            recorder = f'{fed.side}_recorders.{fed.record["recorder"]}'
            what = 'what it is fed' if fact == 'channels' else 'what its output is compared with'
            raise ValueError(
                f'{where}.{argument} must be the channels of {what}, {found} of {recorder}'
                f', but got {given}. Leave it out: it is taken from the model.'
            )


def _check_towers(where: str, settings: Any, models: Models, own: Fed, other: Fed | None) -> None:
    """A loss that states the channels of towers must state those that they have."""
    sides = {'tower_channels': own, 'counterpart_tower_channels': other}
    cls = class_of(settings)
    for argument, fact in (declared(cls) or {}).items():
        if fact not in sides or left_out(cls, settings, argument):
            continue
        fed, given = sides[fact], settings[argument]
        found = models.tower_channels(fed)
        if fed is not None and found is not None and given != found:
            raise ValueError(
                f"{where}.{argument} must be the channels of the {fed.side}'s towers, {found}, but "
                f'got {given}. Leave it out: it is taken from the model.'
            )


def _compares_channels(settings: Any) -> bool:
    """Whether a loss is sure to refuse maps of other channels, once it gets them."""
    cls: Any = class_of(settings)
    if cls is EachLevel:
        return _compares_channels(_dict(settings).get('loss'))
    if getattr(cls, 'accepts_other_shapes', False):
        return False
    return cls is FineGrainedImitation or (
        cls.__module__.startswith('mmrazor.')
        and NEEDS.get(cls.__name__, 'shape') in ('shape', 'pkd')
    )


def _dict(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
