"""What a teacher detected, by the classes of a student."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mmkd.heads.class_map import ClassMap


def student_classes(
    classes: ClassMap,
    labels: NDArray[Any],
    scores: NDArray[Any],
    distribution: NDArray[Any] | None = None,
    softmax: bool = False,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """The student's label of each of n detections, and what it scores for each of its S classes.

    Args:
        classes: which of the teacher's T classes is which of the student's.
        labels: (n,), places among the teacher's classes.
        scores: (n,).
        distribution: (n, T), the score of each of the teacher's classes; a row of NaN where it is
            not told. Defaults to None, none is.
        softmax: whether the scores of a distribution exclude each other: without the teacher's
            classes that have no partner, the rest and the background are divided by what is left,
            and a detection is of the student's class that is then the surest. Defaults to False.

    Returns:
        tuple: labels (n,), -1 for a class that the student does not have; scores (n, S).

    Example:
        >>> classes = ClassMap.from_names(
        ...     ('car', 'truck', 'sky'), ('bike', 'vehicle'), dict(car='vehicle', truck='vehicle'))
        >>> own, found = student_classes(classes, np.array([1, 2]), np.array([0.5, 0.25]))
        >>> own.tolist(), found.tolist()
        ([1, -1], [[0.0, 0.5], [0.0, 0.0]])
        >>> row = np.array([[0.25, 0.0, 0.5]])
        >>> own, found = student_classes(classes, np.array([2]), np.array([0.5]), row, softmax=True)
        >>> own.tolist(), found.tolist()
        ([1], [[0.0, 0.5]])
    """
    places = np.array([-1 if place is None else place for place in classes.places], np.int64)
    own = places[labels]
    found = np.zeros((len(labels), len(classes.student)), np.float32)
    rows = np.flatnonzero(own >= 0)
    found[rows, own[rows]] = scores[rows]
    if distribution is not None:
        told = ~np.isnan(distribution).any(1)
        soft = torch.from_numpy(np.asarray(distribution[told], np.float32))
        found[told] = classes.apply(soft, softmax).numpy()
        if softmax:
            own[told] = np.where(found[told].max(1) > 0, found[told].argmax(1), -1)
    return own, found
