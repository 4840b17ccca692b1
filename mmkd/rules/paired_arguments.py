"""Which arguments of a loss hold the same thing of student and teacher."""

import re
from collections.abc import Mapping
from typing import Any

#: Arguments of mmdet's own losses that belong together, beside those that are named for a side.
_COUNTERPARTS = {'pred': ('target', 'soft_label'), 'input': ('target',), 'source': ('target',)}


def paired_arguments(mapping: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Which of a loss's arguments hold the same of student and teacher, by their names.

    Example:
        >>> own, other = dict(from_student=True), dict(from_student=False)
        >>> paired_arguments(dict(preds_S=own, preds_T=other, scores_T=other, targets=own))
        [('preds_S', 'preds_T')]
    """
    own = {_sideless(key): key for key, record in mapping.items() if record['from_student']}
    other = {_sideless(key): key for key, record in mapping.items() if not record['from_student']}
    pairs = [(own[key], other[key]) for key in own if key in other]
    for first, seconds in _COUNTERPARTS.items():
        for a, b in ((first, second) for second in seconds):
            pairs += [(s, t) for s, t in ((a, b), (b, a)) if own.get(s) == s and other.get(t) == t]
    return pairs


def _sideless(argument: str) -> str:
    """An argument's name without the side: 'preds_S', 's_preds' and 'student_preds' are one."""
    words = re.sub(r'(?<=[a-z0-9])([ST])(?![a-z])', r'_\1', argument).lower().split('_')
    sides = ('s', 't', 'student', 'teacher', 'stu', 'tea')
    rest = sorted('' if word in sides else word for word in words)
    return '_'.join(rest) if any(word in sides for word in words) else argument
