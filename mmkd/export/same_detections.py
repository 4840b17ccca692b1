"""Two programs' detections of one image, matched one to one."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from mmkd.export.reference import Found

SCORE_TOLERANCE = 1e-3
LEAST_OVERLAP = 0.999
#: An overlap so near to the threshold of suppression that rounding decides.
_TIE = 2e-3


def unmatched(own: Found, other: Found, rules: Mapping[str, Any]) -> tuple[int, int]:
    """How many detections have no counterpart, and how many are left out as ties.

    A pair has one class, overlaps by more than 0.999 and differs by less than 0.001 in score. A
    tie is a detection about which rounding decides: its score is at the threshold or at that of
    the last that is kept, or its overlap with another is at the threshold of suppression.

    Args:
        own: the reference's.
        other: the file's.
        rules: the file's ``thresholds``.
    """
    own, other = (_above(found, rules['score'] + SCORE_TOLERANCE) for found in (own, other))
    alike = (
        (own.labels[:, None] == other.labels)
        & (np.abs(own.scores[:, None] - other.scores) < SCORE_TOLERANCE)
        & (overlaps(own.boxes, other.boxes) > LEAST_OVERLAP)
    )
    pairs = [(a, b) for a, b in zip(*linear_sum_assignment(~alike), strict=True) if alike[a, b]]
    left = [
        (found, np.setdiff1d(np.arange(len(found.scores)), [pair[side] for pair in pairs]))
        for side, found in enumerate((own, other))
    ]
    everything = Found(*(np.concatenate(part) for part in zip(own, other, strict=True)))
    ties: list[list[NDArray[Any]]] = [[], []]
    faults: list[list[int]] = [[], []]
    for side, (found, lost) in enumerate(left):
        for i in lost:
            tie = _at_threshold(found.boxes[i], found.labels[i], everything, rules)
            if tie:
                ties[side].append(found.boxes[i])
            else:
                faults[side].append(i)
    tied = [len(ties[0]), len(ties[1])]
    for side, (found, _) in enumerate(left):
        against = (other, own)[side]
        last = against.scores.min(initial=np.inf)
        full = len(against.scores) >= rules['max_per_image'] - sum(tied)
        both = [*ties[0], *ties[1]]
        pushed = len(ties[1 - side])  # each tie of the other may have pushed one out at its end
        rest = []
        for i in faults[side]:
            at_end = full and abs(found.scores[i] - last) < SCORE_TOLERANCE
            follows = (  # what a tie suppresses, or lets live, is one as well
                rules['iou'] is not None
                and bool(both)
                and overlaps(found.boxes[i][None], np.stack(both)).max() > rules['iou']
            )
            if full and not at_end and not follows and found.scores[i] < last and pushed:
                pushed, at_end = pushed - 1, True
            if at_end or follows:
                tied[side] += 1
            else:
                rest.append(i)
        faults[side] = rest
    return len(faults[0]) + len(faults[1]), sum(tied)


def _above(found: Found, score: float) -> Found:
    kept = found.scores > score
    return Found(found.boxes[kept], found.scores[kept], found.labels[kept])


def _at_threshold(box: NDArray[Any], label: Any, others: Found, rules: Mapping[str, Any]) -> bool:
    if rules['iou'] is None:
        return False
    same = slice(None) if rules['class_agnostic'] else others.labels == label
    near = np.abs(overlaps(box[None], others.boxes[same])[0] - rules['iou'])
    return bool((near < _TIE).any())


def overlaps(first: NDArray[Any], second: NDArray[Any]) -> NDArray[Any]:
    """IoU (n, m) of boxes (n, 4) and (m, 4); boxes without area overlap where they are equal.

    >>> overlaps(np.array([[0.0, 0, 2, 2]]), np.array([[0.0, 0, 2, 2], [1, 0, 3, 2]])).round(2)
    array([[1.  , 0.33]])
    """
    return row_overlaps(first[:, None], second[None])


def row_overlaps(first: NDArray[Any], second: NDArray[Any]) -> NDArray[Any]:
    """IoU (...) of boxes (..., 4) with those at the same place; the two broadcast."""
    first, second = first.astype(np.float64), second.astype(np.float64)
    sides = np.minimum(first[..., 2:], second[..., 2:]) - np.maximum(
        first[..., :2], second[..., :2]
    )
    shared = np.prod(np.maximum(sides, 0), axis=-1)
    areas = [np.prod(boxes[..., 2:] - boxes[..., :2], axis=-1) for boxes in (first, second)]
    union = areas[0] + areas[1] - shared
    equal = (np.abs(first - second) < 1e-3).all(axis=-1)
    return np.where(equal, 1.0, shared / np.maximum(union, 1e-12))
