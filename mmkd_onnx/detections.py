"""What a detector finds in one image, and which of its rows that are."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mmkd_onnx.preparation import Placed


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
    boxes: NDArray[Any],
    scores: NDArray[Any],
    rules: Mapping[str, Any],
    size: tuple[int, int],
    factors: NDArray[Any] | None = None,
    placed: Placed | None = None,
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """The detections among the rows of an image, as the detector itself chooses them.

    Args:
        boxes: (P, 4) in pixels of the model's input.
        scores: (P, C).
        rules: the file's ``thresholds``: ``score``, ``iou`` (None: no suppression),
            ``max_per_image``, ``before_nms`` (the surest of each level that go on, or None),
            ``levels`` (how many rows each has), ``multi_label``, ``class_agnostic``, ``min_side``
            (in pixels of the image), ``clip_first`` (before suppression). What few detectors need
            may be left out: see ``RARE``.
        size: (H, W) of the model's input, to which boxes are clipped.
        factors: (P, 1), by which scores were multiplied although ``score`` and ``before_nms`` mean
            them without. Defaults to None: there are none.
        placed: where in the input the image lies. Defaults to None: it is the whole input.

    Returns:
        Boxes (n, 4), scores (n,) and labels (n,), the surest first.
    """
    return choose_rows(boxes, scores, rules, size, factors, placed)[1:]


def choose_rows(
    boxes: NDArray[Any],
    scores: NDArray[Any],
    rules: Mapping[str, Any],
    size: tuple[int, int],
    factors: NDArray[Any] | None = None,
    placed: Placed | None = None,
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
    """As :func:`choose`, and before what it gives which row each detection is, (n,)."""
    if rules.get('peaks'):
        scores = _peaks(scores, **rules['peaks'])
    rows, labels = _candidates(_without(scores, factors, rules.get('factor', 0)), rules)
    found = scores[rows, labels]
    bounds = size
    scale: NDArray[Any] = np.ones(2)
    if placed is not None:
        scale = np.array(placed.scale)
        bounds = placed.bounds or size if rules['clip_first'] else size
    height, width = (side - rules.get('border', 0) for side in bounds)
    limit = np.array([width, height, width, height], np.float32)
    kept_boxes = boxes[rows].astype(np.float32)
    if rules['clip_first']:
        kept_boxes = np.clip(kept_boxes, 0, limit)
    sides = (kept_boxes[:, 2:] - kept_boxes[:, :2]) / scale
    large = found > rules['after'] if 'after' in rules else np.ones(len(found), bool)
    if rules['min_side'] >= 0:
        large &= (sides > rules['min_side']).all(axis=1)
    kept_boxes, found, labels, rows = kept_boxes[large], found[large], labels[large], rows[large]
    order = np.argsort(-found, kind='stable')
    if rules['iou'] is not None:
        reach = kept_boxes[order]
        reach[:, 2:] += rules.get('offset', 0) * scale
        order = order[_spared(reach, labels[order], rows[order], rules)]
    if rules.get('instances', 1) > 1:  # CrowdDet takes the first, not the surest
        first = np.sort(rows[order])[: rules['max_per_image']]
        order = order[np.isin(rows[order], first)]
    order = order[: rules['max_per_image']]
    chosen = kept_boxes[order]
    if rules.get('voting'):
        chosen = _voted(chosen, labels[order], kept_boxes, found, labels)
    return rows[order], np.clip(chosen, 0, limit), found[order].astype(np.float32), labels[order]


#: Rules that files are without but for those of few heads, and what each says.
RARE = {
    'factor': 'scores count before they are multiplied; rows of a smaller factor do not count',
    'after': 'scores that are not above it after they were multiplied do not count',
    'offset': 'sides are longer by it, in pixels of the image, where overlaps are measured',
    'peaks': 'only local maxima count, within kernel cells of the map size (h, w) of the rows',
    'border': 'so many pixels at the right and at the bottom are none of a box',
    'whole_rows': 'before_nms counts rows, with all their classes',
    'by_level': 'rows suppress only those of their own level',
    'fast_nms': 'of each class so many take part, and what is suppressed suppresses, too',
    'instances': 'so many rows stand together, and suppress none of each other',
    'voting': 'boxes become means of those that they overlap',
}


def _without(scores: NDArray[Any], factors: NDArray[Any] | None, least: float) -> NDArray[Any]:
    """Scores (P, C) before they were multiplied by factors (P, 1); 0 where that is too small."""
    if factors is None:
        return scores
    plain = np.zeros_like(scores)
    return np.divide(scores, factors, out=plain, where=(factors > 0) & (factors >= least))


def _spared(
    boxes: NDArray[Any], labels: NDArray[Any], rows: NDArray[Any], rules: Mapping[str, Any]
) -> NDArray[Any]:
    """Which boxes, the surest first, suppression leaves."""
    groups = np.zeros_like(labels) if rules['class_agnostic'] else labels
    if rules.get('by_level'):
        groups = np.searchsorted(np.cumsum(rules['levels']), rows, side='right')
    if rules.get('fast_nms'):
        return _fast(boxes, groups, rules['iou'], rules['fast_nms'])
    instances = rules.get('instances', 1)
    return _alive(boxes, groups, rules['iou'], rows // instances if instances > 1 else None)


def _peaks(scores: NDArray[Any], kernel: int, size: tuple[int, int]) -> NDArray[Any]:
    """Scores (P, C) of a map (h, w), 0 where there is a higher one within ``kernel`` cells."""
    around = np.ones((kernel, kernel), np.uint8)
    classes = np.ascontiguousarray(scores.T.reshape(-1, *size), np.float32)
    kept = [heat * (heat == cv2.dilate(heat, around)) for heat in classes]
    return np.stack(kept).reshape(len(classes), -1).T if kept else scores


def _candidates(
    scores: NDArray[Any], rules: Mapping[str, Any]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Row and label of each pair that is sure enough; of each level the surest."""
    over = scores > rules['score']
    if not rules['multi_label']:
        surest = np.zeros_like(over)
        surest[np.arange(len(scores)), scores.argmax(axis=1)] = True
        over &= surest
    most = rules['before_nms']
    ends = np.cumsum(rules['levels'], dtype=np.int64)
    levels = list(zip([0, *ends[:-1]], ends, strict=True))
    if most is not None and rules.get('whole_rows'):
        best = scores.max(axis=1, initial=0)
        for first, end in levels:
            over[first + np.argsort(-best[first:end], kind='stable')[most:]] = False
        most = None
    rows, labels = (index.astype(np.int64) for index in np.nonzero(over))
    if most is None:
        return rows, labels
    kept = []
    for first, end in levels:
        here = np.flatnonzero((rows >= first) & (rows < end))
        kept.append(here[np.argsort(-scores[rows[here], labels[here]], kind='stable')[:most]])
    chosen = np.concatenate(kept)
    return rows[chosen], labels[chosen]


def _alive(
    boxes: NDArray[Any],
    groups: NDArray[Any],
    threshold: float,
    together: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Which boxes, the surest first, no surer one of their group overlaps by more.

    Args:
        boxes: (n, 4).
        groups: (n,).
        threshold: of the overlap.
        together: (n,): boxes of one number suppress none of each other. Defaults to None: all do.
    """
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    alive = np.ones(len(boxes), bool)
    for i in range(len(boxes)):
        if not alive[i]:
            continue
        rivals = alive[i + 1 :] & (groups[i + 1 :] == groups[i])
        if together is not None:
            rivals &= together[i + 1 :] != together[i]
        later = np.flatnonzero(rivals) + i + 1
        corner = np.maximum(boxes[i, :2], boxes[later, :2])
        sides = np.maximum(np.minimum(boxes[i, 2:], boxes[later, 2:]) - corner, 0)
        shared = sides[:, 0] * sides[:, 1]
        union = np.maximum(areas[i] + areas[later] - shared, 1e-9)
        alive[later[shared / union > threshold]] = False
    return np.flatnonzero(alive)


def _fast(boxes: NDArray[Any], groups: NDArray[Any], threshold: float, most: int) -> NDArray[Any]:
    """Which boxes, the surest first, none of the ``most`` surest of their group overlaps by more.

    What is suppressed suppresses, too (Bolya et al. 2019, YOLACT, section 3.3: Fast NMS).
    """
    alive = []
    for group in np.unique(groups):
        own = np.flatnonzero(groups == group)[:most]
        of, to = boxes[own, None], boxes[None, own]
        sides = np.minimum(of[..., 2:], to[..., 2:]) - np.maximum(of[..., :2], to[..., :2])
        shared = np.prod(np.maximum(sides, 0), axis=-1)
        areas = np.prod(boxes[own, 2:] - boxes[own, :2], axis=-1)
        union = np.maximum(areas[:, None] + areas - shared, 1e-6)
        surer = np.triu(shared / union, 1).max(axis=0, initial=0)
        alive.append(own[surer <= threshold])
    return np.sort(np.concatenate(alive)) if alive else np.zeros(0, np.int64)


def _voted(
    chosen: NDArray[Any],
    classes: NDArray[Any],
    boxes: NDArray[Any],
    scores: NDArray[Any],
    labels: NDArray[Any],
) -> NDArray[Any]:
    """Each box (n, 4) as the mean of the candidates of its class that it overlaps, as PAA has it.

    A candidate counts by its score and by how much it overlaps: exp(-(1 - IoU)^2 / 0.025), from
    an IoU of 0.01 on (Kim and Lee 2020, Probabilistic Anchor Assignment, section 3.4).
    """
    voted = chosen.copy()
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    for i, box in enumerate(chosen):
        sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
        shared = np.prod(np.maximum(sides, 0), axis=1)
        union = np.prod(box[2:] - box[:2]) + areas - shared
        overlap = shared / np.maximum(union, 1e-6)
        weight = np.exp(-((1 - overlap) ** 2) / 0.025) * scores
        weight *= (overlap > 0.01) & (labels == classes[i])
        if weight.sum() > 0:  # a box without area overlaps nothing, not even itself
            voted[i] = (weight[:, None] * boxes).sum(axis=0) / weight.sum()
    return voted
