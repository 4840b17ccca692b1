"""What a detector finds in one image, and which of its rows that are."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Detections:
    """The objects found in one image, as many as ``len(detections)``, in the detector's order.

    Args:
        boxes (np.ndarray): (n, 4), float32: x1, y1, x2, y2 in pixels of the image as it was loaded.
        scores (np.ndarray): (n,), float32, from 0 to 1.
        labels (np.ndarray): (n,), int64: places in ``classes``.
        classes: the names of all classes that the detector knows.
        masks (np.ndarray): (n, H, W), bool, of a detector that finds masks. Defaults to None.

    Example:
        >>> found = Detections(np.zeros((2, 4)), np.array([0.9, 0.2]), np.array([1, 0]), ('a', 'b'))
        >>> len(found), found.names, found.above(0.5).names
        (2, ['b', 'a'], ['b'])
    """

    boxes: NDArray[Any]
    scores: NDArray[Any]
    labels: NDArray[Any]
    classes: tuple[str, ...]
    masks: NDArray[Any] | None = None

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def names(self) -> list[str]:
        """The name of each object's class."""
        return [self.classes[label] for label in self.labels]

    def above(self, score: float) -> 'Detections':
        """Those that score at least so much."""
        return self._only(self.scores >= score)

    def finite(self) -> 'Detections':
        """Those whose box and score are numbers, as a file in JSON can hold them."""
        return self._only(np.isfinite(self.boxes).all(axis=1) & np.isfinite(self.scores))

    def _only(self, kept: NDArray[Any]) -> 'Detections':
        masks = None if self.masks is None else self.masks[kept]
        found = (self.boxes[kept], self.scores[kept], self.labels[kept])
        return Detections(*found, self.classes, masks)

    def summary(self) -> str:
        """How many there are of each class.

        >>> Detections(np.zeros((3, 4)), np.ones(3), np.array([1, 0, 1]), ('a', 'b')).summary()
        '2 b, 1 a'
        """
        counted = Counter(self.names).most_common()
        return ', '.join(f'{count} {name}' for name, count in counted) or 'nothing'


def choose(
    boxes: NDArray[Any], scores: NDArray[Any], rules: Mapping[str, Any], size: tuple[int, int]
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """The detections among the rows of an image, as the detector itself chooses them.

    Args:
        boxes: (P, 4) in pixels of the model's input.
        scores: (P, C).
        rules: the file's ``thresholds``: ``score``, ``iou`` (None: no suppression),
            ``max_per_image``, ``before_nms`` (the surest of each level that go on, or None),
            ``levels`` (how many rows each has), ``multi_label``, ``class_agnostic``, ``min_side``,
            ``clip_first`` (before suppression).
        size: (H, W) of the model's input, to which boxes are clipped.

    Returns:
        Boxes (n, 4), scores (n,) and labels (n,), the surest first.
    """
    rows, labels = _candidates(scores, rules)
    found = scores[rows, labels]
    height, width = size
    limit = np.array([width, height, width, height], np.float32)
    kept_boxes = boxes[rows].astype(np.float32)
    if rules['clip_first']:
        kept_boxes = np.clip(kept_boxes, 0, limit)
    sides = kept_boxes[:, 2:] - kept_boxes[:, :2]
    large = (sides > rules['min_side']).all(axis=1) if rules['min_side'] >= 0 else slice(None)
    kept_boxes, found, labels = kept_boxes[large], found[large], labels[large]
    order = np.argsort(-found, kind='stable')
    if rules['iou'] is not None:
        groups = np.zeros_like(labels) if rules['class_agnostic'] else labels
        order = order[_alive(kept_boxes[order], groups[order], rules['iou'])]
    order = order[: rules['max_per_image']]
    return np.clip(kept_boxes[order], 0, limit), found[order].astype(np.float32), labels[order]


def _candidates(
    scores: NDArray[Any], rules: Mapping[str, Any]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Row and label of each pair that is sure enough; of each level the surest."""
    over = scores > rules['score']
    if not rules['multi_label']:
        surest = np.zeros_like(over)
        surest[np.arange(len(scores)), scores.argmax(axis=1)] = True
        over &= surest
    rows, labels = (index.astype(np.int64) for index in np.nonzero(over))
    most = rules['before_nms']
    if most is None:
        return rows, labels
    kept = []
    ends = np.cumsum(rules['levels'])
    for first, end in zip([0, *ends[:-1]], ends, strict=True):
        here = np.flatnonzero((rows >= first) & (rows < end))
        kept.append(here[np.argsort(-scores[rows[here], labels[here]], kind='stable')[:most]])
    chosen = np.concatenate(kept)
    return rows[chosen], labels[chosen]


def _alive(boxes: NDArray[Any], groups: NDArray[Any], threshold: float) -> NDArray[Any]:
    """Which boxes, the surest first, no surer one of their group overlaps by more."""
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    alive = np.ones(len(boxes), bool)
    for i in range(len(boxes)):
        if not alive[i]:
            continue
        later = np.flatnonzero(alive[i + 1 :] & (groups[i + 1 :] == groups[i])) + i + 1
        corner = np.maximum(boxes[i, :2], boxes[later, :2])
        sides = np.maximum(np.minimum(boxes[i, 2:], boxes[later, 2:]) - corner, 0)
        shared = sides[:, 0] * sides[:, 1]
        union = np.maximum(areas[i] + areas[later] - shared, 1e-9)
        alive[later[shared / union > threshold]] = False
    return np.flatnonzero(alive)
