"""What a teacher detected, by the classes of a student."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mmkd.heads.class_map import ClassMap
from mmkd.heads.fusion import overlaps

#: Overlap above which detections of two of the teacher's classes show one object of the student's.
SAME = 0.6


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
            and a detection is of the student's class that is then the surest. Of sigmoids only
            these columns are left out; a detection of such a class is of the surest of the others.
            Defaults to False.

    Returns:
        tuple: labels (n,), -1 where nothing is of a class that the student has; scores (n, S).

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
        >>> own, found = student_classes(classes, np.array([2]), np.array([0.5]), row)
        >>> own.tolist(), found.tolist()
        ([1], [[0.0, 0.25]])
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
        surest = np.where(found[told].max(1) > 0, found[told].argmax(1), -1)
        own[told] = surest if softmax else np.where(own[told] >= 0, own[told], surest)
    return own, found


def one_of_each(
    boxes: NDArray[Any], labels: NDArray[Any], scores: NDArray[Any], soft: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Which of the detections of an image stay, so that each object is shown once.

    A detector looks for boxes that are one object among those of one class. Of two of its classes
    it may keep a box each of one object; where both are surest of one class of the student (several
    are one there, or their distributions say so), the surer stays, as among the rows of a network.

    Args:
        boxes: (n, 4) of the image.
        labels: (n,), the teacher's.
        scores: (n, S), of the student's classes.
        soft: (n,), bool, whether they are of a distribution: the scores of the classes that are one
            are added up in it already. Of others they are here, up to 1.

    Returns:
        tuple: places (k,), in order; scores (k, S).

    Example:
        >>> boxes = np.array([[0, 0, 8, 8], [0, 0, 8, 7], [0, 0, 8, 8]])
        >>> scores = np.array([[0.5, 0.0], [0.25, 0.0], [0.0, 0.75]])
        >>> found = one_of_each(boxes, np.array([0, 1, 2]), scores, np.zeros(3, bool))
        >>> [one.tolist() for one in found]
        [[0, 2], [[0.75, 0.0], [0.0, 0.75]]]
    """
    surest = scores.argmax(1) if len(scores) else np.zeros(0, np.int64)
    rivals = (surest[:, None] == surest) & (labels[:, None] != labels)
    if not rivals.any():
        return np.arange(len(scores)), scores
    overlap = np.stack([overlaps(box, boxes) for box in boxes])
    stays, found = np.ones(len(scores), bool), scores.copy()
    for i in np.argsort(-scores.max(1), kind='stable'):
        if not stays[i]:
            continue
        others = rivals[i] & stays & (overlap[i] > SAME)
        others &= scores.max(1) <= scores[i].max()
        stays[others] = False
        hard = others & ~soft & ~soft[i]
        found[i, surest[i]] = min(found[i, surest[i]] + scores[hard, surest[i]].sum(), 1)
    return np.flatnonzero(stays), found[stays]
