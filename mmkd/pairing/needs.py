"""What a method may need of the two detectors, one function for each fact."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
from mmdet.models.detectors.base_detr import DetectionTransformer
from torch import nn

from mmkd.binding.probe import Probe
from mmkd.binding.shared_levels import both_sizes, equal_levels, strides
from mmkd.heads import describe_head, find_reader
from mmkd.heads.distributions import bins_of
from mmkd.heads.towers import TOWERS, towers
from mmkd.rules.distiller_rules import DIFFERENCE


def head_of(model: Any) -> Any:
    """The head that a detector predicts boxes with; of a cascade its first stage's."""
    head = getattr(model, 'roi_head', None)
    if head is None:
        return getattr(model, 'bbox_head', None)
    found = getattr(head, 'bbox_head', None)
    return found[0] if isinstance(found, nn.ModuleList) else found


def head_name(model: Any) -> str:
    """The class of that head; of a detector without one, that of what it predicts with."""
    others = (getattr(model, name, None) for name in ('mask_head', 'panoptic_head', 'rpn_head'))
    found = (head for head in (head_of(model), *others) if head is not None)
    return type(next(found, model)).__name__


def _is_dense(model: Any) -> bool:
    return isinstance(head_of(model), BaseDenseHead) and not hasattr(model, 'roi_head')


def _says(model: Any, fact: str) -> Any:
    head = head_of(model)
    return None if head is None else getattr(describe_head(head), fact)


def _has_rows(model: Any) -> bool:
    head = getattr(model, 'roi_head', None) or head_of(model)
    try:
        find_reader(head)
    except ValueError:
        return False
    return True


def _has_tower(model: Any) -> bool:
    head: Any = head_of(model)
    return head is not None and all(towers(head, name) for name in TOWERS)


#: Of one detector.
FACTS: dict[str, Callable[[Any], bool]] = {
    'dense': _is_dense,
    'two-stage': lambda model: hasattr(model, 'roi_head'),
    'DETR': lambda model: isinstance(model, DetectionTransformer),
    'rows': _has_rows,
    'priors': lambda model: getattr(head_of(model), 'prior_generator', None) is not None,
    'anchors': lambda m: hasattr(getattr(head_of(m), 'prior_generator', None), 'base_anchors'),
    'sigmoid': lambda model: _says(model, 'sigmoid') is True,
    'softmax': lambda model: _says(model, 'sigmoid') is False,
    'objectness': lambda model: _says(model, 'factor') == 'objectness',
    'DFL': lambda model: _is_dense(model) and bins_of(head_of(model)) > 0,
    'tower': _has_tower,
    'neck': lambda model: getattr(model, 'neck', None) is not None,
}


@functools.lru_cache(maxsize=1)  # each method asks, and the models look at images to answer
def _levels(student: Any, teacher: Any) -> tuple[list[tuple[int, int]], str]:
    """Which level of the student has the stride of which of the teacher; the strides in words.

    Both are empty where the levels of the two are equal.
    """
    probes = []
    for model in (student, teacher):
        source = 'neck' if FACTS['neck'](model) else 'backbone'
        probes.append(Probe(model, {'maps': dict(type='ModuleOutputs', source=source)}))
    seen = both_sizes(probes, [dict(recorder='maps')] * 2)
    if seen is None:
        return [], 'they cannot be seen'
    own, other, pixels = seen
    if own == other:
        return [], ''
    found = strides(own, pixels), strides(other, pixels)
    return equal_levels(own, other), f'their maps have strides {found[0]} and {found[1]}'


def _differing_levels(student: Any, teacher: Any) -> str:
    return _levels(student, teacher)[1]


def _no_level(student: Any, teacher: Any) -> str:
    shared, apart = _levels(student, teacher)
    return '' if shared else apart


def _differing_priors(student: Any, teacher: Any) -> str:
    """Proposals and queries are no priors, though neither head has any."""
    if not FACTS['priors'](student) and not FACTS['priors'](teacher):
        return 'neither of them has a prior_generator'
    return DIFFERENCE['priors'](head_of(student), head_of(teacher))


def _of_heads(name: str) -> Callable[[Any, Any], str]:
    return lambda student, teacher: DIFFERENCE[name](head_of(student), head_of(teacher))


#: Of both: how they differ, '' where they do not.
EQUAL: dict[str, Callable[[Any, Any], str]] = {
    'equal classes': _of_heads('classes'),
    'equal priors': _differing_priors,
    'equal coder': _of_heads('coder'),
    'equal bins': _of_heads('bins'),
    'equal levels': _differing_levels,
    'a level in common': _no_level,
}


def unmet(needs: Sequence[str], student: nn.Module, teacher: nn.Module) -> list[str]:
    """The needs that do not hold, each with what was found.

    Args:
        needs: facts of ``FACTS`` or ``EQUAL``, or the name of a head's class, of both detectors;
            with 'student: ' or 'teacher: ' in front of that one alone.
        student: the built student.
        teacher: the built teacher.
    """
    sides = {'student': student, 'teacher': teacher}
    lacking = []
    for need in needs:
        if need in EQUAL:
            difference = EQUAL[need](student, teacher)
            lacking += [f'{need}, but {difference}'] if difference else []
            continue
        only, _, name = need.rpartition(': ')
        for side in [only] if only else sides:
            kind = head_name(sides[side])
            if not (FACTS[name](sides[side]) if name in FACTS else kind == name):
                lacking.append(f'{name}, but the head of the {side} is {kind}')
    return lacking
