"""Which of the two models an entry of ``loss_forward_mappings`` is recorded in."""

from collections.abc import Mapping
from typing import Any

SIDES = ('student', 'teacher')


def side_of(entry: Mapping[str, Any]) -> str:
    """'student' or 'teacher': whose recorders an argument of a loss is fed by."""
    return 'student' if entry.get('from_student') else 'teacher'
