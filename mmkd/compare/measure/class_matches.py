"""The detections of a class, matched with its objects, from which average precision follows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Recall at which COCO reads precision; pycocotools' own numbers, to the last bit.
COCO_RECALL = np.linspace(0.0, 1.0, 101)
#: Recall at which VOC 2007 reads it, as mmdet has it.
VOC_RECALL = np.arange(0, 1 + 1e-3, 0.1)

_CELLS = 4_000_000  # of an array: as many resamples at once


@dataclass(frozen=True)
class ClassMatches:
    """The detections of one class on N images, D in all, at T IoU thresholds.

    Args:
        image: (D,) index of the image of each detection, by falling score.
        matched: (T, D) whether it matches an object.
        ignored: (T, D) whether it counts neither way.
        objects: (N,) how many objects that count each image has.
    """

    image: NDArray[Any]
    matched: NDArray[Any]
    ignored: NDArray[Any]
    objects: NDArray[Any]


def mean_average_precision(
    classes: Sequence[ClassMatches],
    weights: NDArray[Any],
    recall: NDArray[Any] | None = COCO_RECALL,
) -> NDArray[Any]:
    """mAP of B resamples: the mean over IoU thresholds and the classes that have objects there.

    Args:
        classes: T and N are the same for all.
        weights: (B, N) integers, how often each image is there; all 1 for the images as they are.
        recall: where precision is read; None for the whole area under it. Defaults to COCO's.

    Returns:
        np.ndarray: (B,), 0 where no class has objects.
    """
    total, counted = np.zeros(len(weights)), np.zeros(len(weights))
    for matches in classes:
        step = max(_CELLS // max(len(matches.image), 1), 1)
        for begin in range(0, len(weights), step):
            part = slice(begin, begin + step)
            found = average_precision(matches, weights[part], recall).mean(1)
            there = ~np.isnan(found)
            total[part] += np.where(there, found, 0.0)
            counted[part] += there
    return total / np.maximum(counted, 1)


def average_precision(
    matches: ClassMatches, weights: NDArray[Any], recall: NDArray[Any] | None = COCO_RECALL
) -> NDArray[Any]:
    """AP of a class at each IoU threshold, (B, T); NaN for a resample without objects of it.

    The order of the detections is that of their scores in each resample, so they are sorted once:
    an image that is drawn w times is w detections with one score. Precision is needed where
    detections match only: between these it falls. The result is pycocotools' on the same images.
    """
    objects = weights @ matches.objects
    found = np.full((len(weights), len(matches.matched)), np.nan)
    found[objects > 0] = 0.0
    drawn = weights[:, matches.image].astype(np.int32)
    counted: tuple[bytes, NDArray[Any]] | None = None
    for index, (matched, ignored) in enumerate(zip(matches.matched, matches.ignored, strict=True)):
        at = np.flatnonzero(matched & ~ignored)
        if not len(at):
            continue
        key = np.packbits(ignored).tobytes()
        if counted is None or counted[0] != key:  # mostly none is ignored at any threshold
            counted = key, np.cumsum(np.where(ignored, 0, drawn), axis=1, dtype=np.int32)
        hits = np.cumsum(drawn[:, at], axis=1, dtype=np.int64)
        precision = hits / np.maximum(counted[1][:, at], 1)
        precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        if recall is None:
            gained = np.diff(hits, axis=1, prepend=0) / np.maximum(objects, 1)[:, None]
            values = (gained * precision).sum(1)
        else:
            values = _read(precision, hits, objects, recall)
        found[:, index] = np.where(objects > 0, values, np.nan)
    return found


def _read(
    precision: NDArray[Any], hits: NDArray[Any], objects: NDArray[Any], recall: NDArray[Any]
) -> NDArray[Any]:
    """Mean precision at the first detection that reaches each recall; 0 for one that none does."""
    count = np.maximum(objects, 1)[:, None]
    needed = np.ceil(recall * count).astype(np.int64)  # hits, up to rounding
    needed = np.where((needed - 1) / count >= recall, needed - 1, needed)
    needed = np.where(needed / count < recall, needed + 1, needed)
    # Rows behind one another in one sorted list, so that one search does for all.
    most, rows = hits[:, -1].max(), np.arange(len(hits))[:, None]
    keys = (hits + rows * (most + 2)).ravel()
    index = np.searchsorted(keys, np.minimum(needed, most + 1) + rows * (most + 2))
    padded = np.append(precision, np.zeros((len(hits), 1)), axis=1)
    return np.take_along_axis(padded, index - rows * hits.shape[1], axis=1).mean(1)
