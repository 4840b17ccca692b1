"""What is checked before a run: recorders, mappings, and that student and teacher match."""

import importlib
import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from mmrazor.registry import MODELS, TASK_UTILS
from torch import nn

from mmkd.config.names import nearest
from mmkd.heads import describe_head, predicting_head
from mmkd.heads.distributions import bins_of
from mmkd.rules.side import SIDES, side_of
from mmkd.rules.taps import tap


def check_distiller(distiller: Mapping[str, Any], student: nn.Module, teacher: nn.Module) -> None:
    """Check a distiller's config against the two models, before it is built.

    Raises:
        TypeError: it is no config.
        ValueError: a recorder source that does not exist, a mapping that names an unknown loss,
            argument, recorder or connector, or an argument or a loss that no mapping serves.
    """
    if isinstance(distiller, nn.Module):
        return
    if not isinstance(distiller, Mapping):
        raise TypeError(f'distiller must be a config, but got {type(distiller).__name__}.')
    for side, model in zip(SIDES, (student, teacher), strict=True):
        for name, recorder in (distiller.get(f'{side}_recorders') or {}).items():
            _check_recorder(f'{side}_recorders.{name}', recorder, model)

    losses = distiller.get('distill_losses') or {}
    mappings = distiller.get('loss_forward_mappings') or {}
    if losses and not mappings and distiller.get('type') != 'ConfigurableDistiller':
        return  # another distiller may feed its losses itself
    unmapped = sorted(set(losses) - set(mappings))
    if unmapped:
        raise ValueError(
            f'each of distill_losses must have its entry in loss_forward_mappings, but '
            f'{", ".join(unmapped)} has none and would silently never be computed. Add it.'
        )
    for name, mapping in mappings.items():
        if name not in losses:
            raise _unknown('loss_forward_mappings', name, 'distill_losses', losses)
        _check_mapping(name, mapping, losses[name], distiller)


def _check_recorder(where: str, recorder: Mapping[str, Any], model: nn.Module) -> None:
    kind, source = str(recorder.get('type', '')), str(recorder.get('source', ''))
    if TASK_UTILS.get(f'{kind}Recorder') is None:
        kinds = [n[: -len('Recorder')] for n in TASK_UTILS.module_dict if n.endswith('Recorder')]
        raise _unknown(f'{where}.type', kind, 'recorders', kinds)
    if kind.startswith('Module'):
        names = [name for name, _ in model.named_modules() if name]
        if source not in names:
            raise _unknown(f'{where}.source', source, f'modules of {type(model).__name__}', names)
    elif kind == 'Parameter':
        names = [name for name, _ in model.named_parameters()]
        if source not in names:
            raise _unknown(f'{where}.source', source, 'parameters', names)
    elif kind.startswith(('Method', 'Function')):
        _check_import(f'{where}.source', source)


def _check_import(where: str, source: str) -> None:
    """``source`` is module.function or module.Class.method."""
    parts = source.split('.')
    found: Any = None
    for end in range(len(parts), 0, -1):
        try:
            found = importlib.import_module('.'.join(parts[:end]))
        except ImportError:
            continue
        break
    if found is None:
        raise ValueError(
            f'{where} must be the dotted name of a method or function, but nothing of "{source}" '
            'can be imported. Is the package installed, and the name complete?'
        )
    for i in range(end, len(parts)):
        if not hasattr(found, parts[i]):
            raise _unknown(where, source, '.'.join(parts[:i]), dir(found), parts[i])
        found = getattr(found, parts[i])


def _check_mapping(
    name: str, mapping: Mapping[str, Any], loss: Mapping[str, Any], distiller: Mapping[str, Any]
) -> None:
    where = f'loss_forward_mappings.{name}'
    loss_type = loss['type']
    cls: Any = loss_type if inspect.isclass(loss_type) else MODELS.get(loss_type)
    if cls is None:
        raise _unknown(
            f'distill_losses.{name}.type', loss_type, 'the registered modules', MODELS.module_dict
        )
    parameters = dict(list(inspect.signature(cls.forward).parameters.items())[1:])
    for argument, record in mapping.items():
        if argument not in parameters:
            raise _unknown(where, argument, f'the arguments of {cls.__name__}.forward', parameters)
        missing = {'recorder', 'from_student'} - set(record)
        if missing:
            raise ValueError(
                f"{where}.{argument} must say which recorder and whether it is the student's, "
                f'but lacks {", ".join(sorted(missing))}.'
            )
        side = side_of(record)
        recorders = distiller.get(f'{side}_recorders') or {}
        if record['recorder'] not in recorders:
            raise _unknown(
                f'{where}.{argument}', record['recorder'], f'{side}_recorders', recorders
            )
        connectors = distiller.get('connectors') or {}
        if record.get('connector') and record['connector'] not in connectors:
            raise _unknown(f'{where}.{argument}', record['connector'], 'connectors', connectors)
    required = [
        n for n, p in parameters.items() if p.default is p.empty and p.kind < p.VAR_POSITIONAL
    ]
    lacking = [n for n in required if n not in mapping]
    if lacking:
        raise ValueError(
            f'{where} must feed each argument of {cls.__name__}.forward, but lacks '
            f'{", ".join(lacking)}. Map it to a recorder.'
        )


def _unknown(
    where: str, received: str, among: str, names: Iterable[str], part: str | None = None
) -> ValueError:
    names = [name for name in names if not name.startswith('__')]
    near = nearest(part or received, names, cutoff=0.4) or names[:8]
    return ValueError(
        f'{where} must be one of {among}, but got "{received}". Nearest: {", ".join(near)}.'
    )


def check_alignment(
    distiller: nn.Module, student: nn.Module, teacher: nn.Module, scale: float = 1.0
) -> None:
    """Check that the two models agree in what the distiller's losses need equal.

    A loss or connector says so in its attribute ``needs_equal``: any of ``classes``, ``priors``,
    ``coder`` and ``bins`` (of the distributions over the sides of boxes). A connector that brings
    the teacher's record to the student's form lists what it makes equal in ``aligns``.

    Args:
        distiller: built.
        student: built.
        teacher: built.
        scale: of the image that the teacher sees, by that of the student's. Defaults to 1.0.

    Raises:
        ValueError: they differ.
    """
    connectors = getattr(distiller, 'connectors', {})
    mappings = getattr(distiller, 'loss_forward_mappings', {})
    for name, loss in getattr(distiller, 'distill_losses', {}).items():
        (s_key, s_head), (t_key, t_head) = (
            _fed_head(distiller, mappings.get(name, {}), side, model)
            for side, model in zip(SIDES, (student, teacher), strict=True)
        )
        if s_head is None or t_head is None:
            continue
        chains = [
            connectors[record['connector']]
            for record in mappings.get(name, {}).values()
            if record.get('connector')
        ]
        used = [m for c in chains for m in (c if isinstance(c, nn.Sequential) else [c])]
        needs = {n for module in [loss, *used] for n in getattr(module, 'needs_equal', ())}
        aligned = {n for module in used for n in getattr(module, 'aligns', ())}
        if scale != 1 and 'priors' in needs:
            raise ValueError(
                f'distill_losses.{name} ({type(loss).__name__}) compares teacher and student prior '
                f'by prior, so that both must see the image at one size, but the teacher has '
                f'scale={scale}. Take scale=1, or a loss that pairs rows by overlap '
                '(PredictionRows) or detections (SoftGroundTruth).'
            )
        for need in sorted(needs - aligned):
            difference = DIFFERENCE[need](s_head, t_head)
            if difference:
                raise ValueError(
                    f'distill_losses.{name} ({type(loss).__name__}) needs equal {need} of student '
                    f'and teacher (model.architecture.{s_key} and model.teacher.{t_key}), '
                    f'but {difference}. Change one of the two models, or take a loss that does '
                    'not compare them prior by prior.'
                )


def _fed_head(
    distiller: Any, mapping: Mapping[str, Any], side: str, model: nn.Module
) -> tuple[str, nn.Module | None]:
    """Key and module of the head that feeds a loss from one side; else the model's own."""
    for record in mapping.values():
        if side_of(record) == side:
            recorder = getattr(distiller, f'{side}_recorders').get_recorder(record['recorder'])
            found = tap(model, recorder)
            if found.head is not None:
                return found.path, found.head
    return predicting_head(model)


def _said(head: nn.Module | None, fact: str) -> Any:
    return None if head is None else getattr(describe_head(head), fact)


def _differing_classes(student: nn.Module, teacher: nn.Module) -> str:
    s, t = (_said(head, 'classes') for head in (student, teacher))
    return '' if s == t else f'the student has num_classes={s}, the teacher {t}'


def _differing_priors(student: nn.Module, teacher: nn.Module) -> str:
    s, t = (_said(head, 'priors') for head in (student, teacher))
    if s is None or t is None:
        return '' if s is t else 'only one of them has a prior_generator'
    if type(s).__name__ != type(t).__name__:
        return f"the student's are made by {type(s).__name__}, the teacher's by {type(t).__name__}"
    for attribute in ('strides', 'num_base_priors', 'center_offset', 'offset'):
        of_s, of_t = (getattr(priors, attribute, None) for priors in (s, t))
        if of_s != of_t:
            return f'their {attribute} are {of_s} (student) and {of_t} (teacher)'
    pairs = zip(getattr(s, 'base_anchors', ()), getattr(t, 'base_anchors', ()), strict=True)
    for level, (of_s, of_t) in enumerate(pairs):
        if of_s.shape != of_t.shape or not torch.allclose(of_s, of_t.to(of_s), atol=1e-3):
            return (
                f'the base anchors of level {level} are {of_s.tolist()} (student) and '
                f'{of_t.tolist()} (teacher)'
            )
    return ''


def _differing_coder(student: nn.Module, teacher: nn.Module) -> str:
    s, t = (_said(head, 'coder') for head in (student, teacher))
    of_s, of_t = (
        (type(coder).__name__, {k: v for k, v in vars(coder).items() if k in ('means', 'stds')})
        if coder is not None
        else None
        for coder in (s, t)
    )
    return '' if of_s == of_t else f'the box coders are {of_s} (student) and {of_t} (teacher)'


def _differing_bins(student: nn.Module, teacher: nn.Module) -> str:
    s, t = (0 if head is None else bins_of(head) for head in (student, teacher))
    return '' if s == t else f'the sides of their boxes have {s} (student) and {t} (teacher)'


#: By what must be equal: how the two heads differ in it, '' where they do not.
DIFFERENCE = {
    'classes': _differing_classes,
    'priors': _differing_priors,
    'coder': _differing_coder,
    'bins': _differing_bins,
}
