"""An image and its mirror image, looked at as two views of one: test-time augmentation."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmkd.teachers.outside_detectors import Found

#: Overlap above which two views show one object.
SAME = 0.6


def mirrored_back(found: Found, width: int) -> Found:
    """What was found in a mirror image, in the image itself, of ``width`` pixels."""
    boxes = found.boxes.copy()
    boxes[:, [0, 2]] = width - found.boxes[:, [2, 0]]
    return found._replace(boxes=boxes)


@dataclass
class _Object:
    """An object that some views show."""

    label: int
    views: list[int] = field(default_factory=list)
    boxes: list[NDArray[Any]] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    distributions: list[NDArray[Any]] = field(default_factory=list)

    @property
    def box(self) -> NDArray[Any]:
        weights = np.maximum(self.scores, 1e-6)
        return np.average(self.boxes, axis=0, weights=weights)


def fused(views: Sequence[Found]) -> Found:
    """The objects that several views of an image show.

    Boxes of one class that overlap are one object: its box is their mean, weighted by their scores;
    its score is their sum by the number of views, so that what one view alone shows counts half.

    Args:
        views: of one image, in its pixels.
    """
    order = sorted(
        ((v, i) for v, view in enumerate(views) for i in range(len(view.scores))),
        key=lambda place: -views[place[0]].scores[place[1]],
    )
    objects: list[_Object] = []
    for v, i in order:
        view = views[v]
        box, label = view.boxes[i], int(view.labels[i])
        alike = [
            (_overlap(box, one.box), one)
            for one in objects
            if one.label == label and v not in one.views
        ]
        best, found = max(alike, key=lambda pair: pair[0], default=(0.0, _Object(label)))
        if best <= SAME:
            found = _Object(label)
            objects.append(found)
        found.views.append(v)
        found.boxes.append(box)
        found.scores.append(float(view.scores[i]))
        if view.distribution is not None:
            found.distributions.append(view.distribution[i])
    objects.sort(key=lambda one: -sum(one.scores))
    soft = all(view.distribution is not None for view in views) and len(objects) > 0
    return Found(
        np.array([one.box for one in objects], np.float32).reshape(-1, 4),
        np.array([sum(one.scores) / len(views) for one in objects], np.float32),
        np.array([one.label for one in objects], np.int64),
        np.array([np.sum(one.distributions, axis=0) / len(views) for one in objects], np.float32)
        if soft
        else None,
    )


def _overlap(box: NDArray[Any], other: NDArray[Any]) -> float:
    low, high = np.maximum(box[:2], other[:2]), np.minimum(box[2:], other[2:])
    shared = float(np.prod(np.maximum(high - low, 0)))
    areas = float(np.prod(box[2:] - box[:2]) + np.prod(other[2:] - other[:2]))
    return shared / max(areas - shared, 1e-6)
