"""Which class of a teacher's detections is which of the student's, by their names."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmkd.config.names import first_of


def partners(
    teacher: Sequence[str],
    student: Sequence[str],
    class_map: Mapping[str, str | None] | None = None,
) -> NDArray[Any]:
    """The place of each of the teacher's classes among the student's, -1 for none.

    Args:
        teacher: names of the teacher's classes.
        student: names of the student's.
        class_map: the student's name for classes of the teacher that it calls otherwise. Defaults
            to None.

    Raises:
        ValueError: no class of the teacher is one of the student's.

    >>> partners(['car', 'truck', 'sky'], ['bike', 'vehicle'], dict(car='vehicle', truck='vehicle'))
    array([ 1,  1, -1])
    """
    place = {name: i for i, name in enumerate(student)}
    told = class_map or {}
    found = [place.get(told.get(name, name) or '', -1) for name in teacher]
    if teacher and max(found) < 0:
        raise ValueError(
            'model.teacher: some class of the detections must be one of the student '
            f'({first_of(student, 6)}), but none is: {first_of(teacher, 6)}. Name the rest in '
            "class_map=dict(teachers='students'), or give each result its category_name."
        )
    return np.array(found, dtype=np.int64)


def student_scores(
    places: NDArray[Any],
    labels: NDArray[Any],
    scores: NDArray[Any],
    distribution: NDArray[Any] | None,
    classes: int,
) -> NDArray[Any]:
    """What detections score for each of the student's classes (n, C).

    Args:
        places: (T,), of :func:`partners`.
        labels: (n,), places among the teacher's classes.
        scores: (n,).
        distribution: (n, T), the score of each of the teacher's classes; a row of NaN where it is
            not told. None where none is.
        classes: C.
    """
    found = np.zeros((len(labels), classes), np.float32)
    own = places[labels] if len(labels) else labels
    rows = np.flatnonzero(own >= 0)
    found[rows, own[rows]] = scores[rows]
    if distribution is not None:
        told = ~np.isnan(distribution).any(1)
        found[told] = 0
        for column, place in enumerate(places):
            if place >= 0:  # classes that are one add up
                found[told, place] += distribution[told, column]
    return found.clip(0, 1)
