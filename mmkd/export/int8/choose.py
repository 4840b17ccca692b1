"""Which layers of a file are quantised: all, unless the mAP falls too far."""

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmkd.export.int8.post_training import PostTraining
from mmkd.export.same_detections import overlaps, row_overlaps
from mmkd_onnx import Detector, load

#: How many of the calibration images the layers are compared on.
_LOOKED_AT = 8


def choose(
    tools: PostTraining,
    finished: Callable[[Any], bytes],
    holds: Callable[[bytes], bool | None],
    inputs: Sequence[NDArray[Any]],
    by_place: bool = True,
) -> tuple[bytes, list[str]]:
    """Quantise all layers; if the mAP falls too far, leave out those that cost most.

    What each costs is measured: it alone is quantised, and the rows are compared, or the detections
    where rows have no place of their own. Then 1, 2, 3, 5,
    8, ... of the costliest stay in float32, until the mAP holds.

    Args:
        tools: the file in float32.
        finished: an ONNX model as the content of a file.
        holds: whether the mAP of a file is near enough; None if it is not measured.
        inputs: batches (1, 3, H, W) to compare on.
        by_place: whether each row has its place, as those of a two-stage detector have not.
            Defaults to True.

    Returns:
        The content of the file, and the layers that are left out. If the mAP does not hold
        with half of them, all are quantised: the check will say so.
    """
    whole = finished(tools.quantised(tools.layers))
    if holds(whole) is not False:
        return whole, []
    costs = _costs(tools, finished, inputs[:_LOOKED_AT], by_place)
    dearest = sorted(costs, key=lambda name: -costs[name])
    count, step = 1, 1
    while count <= max(len(dearest) // 2, 1) and count < len(dearest):
        left_out = dearest[:count]
        content = finished(tools.quantised([c for c in tools.layers if c not in left_out]))
        if holds(content):
            return content, left_out
        count, step = count + step, count
    return whole, []


def _costs(
    tools: PostTraining,
    finished: Callable[[Any], bytes],
    inputs: Sequence[NDArray[Any]],
    by_place: bool = True,
) -> dict[str, float]:
    """By the name of each layer, how far what is found moves if it alone is quantised."""
    cost = row_cost if by_place else detection_cost
    exact = _found(finished(tools.quantised([])), inputs, by_place)
    return {
        name: cost(exact, _found(finished(tools.quantised([name])), inputs, by_place))
        for name in tools.layers
    }


def _found(content: bytes, inputs: Sequence[NDArray[Any]], by_place: bool) -> list[Any]:
    with TemporaryDirectory() as folder:
        file = Path(folder) / 'rows.onnx'
        file.write_bytes(content)
        detector: Detector = load(file)
        outputs = [detector.raw(batch) for batch in inputs]
    return outputs if by_place else [detector.chosen([o[0] for o in one]) for one in outputs]


def row_cost(exact: Sequence[Sequence[NDArray[Any]]], other: Any) -> float:
    """How far rows have moved: the change of the best score, and what of the box is elsewhere.

    Rows count by their best score, so that background counts for little.

    Args:
        exact: for each image boxes (1, P, 4) and scores (1, P, C).
        other: likewise.

    Example:
        >>> box = np.array([[[0.0, 0, 2, 2]]])
        >>> round(row_cost([[box, np.array([[[0.5]]])]], [[box, np.array([[[0.4]]])]]), 2)
        0.1
    """
    moved = total = 0.0
    for (boxes, scores, *_), (new_boxes, new_scores, *_) in zip(exact, other, strict=True):
        weight = scores[0].max(axis=1).astype(np.float64)
        change = np.abs(scores[0] - new_scores[0]).max(axis=1)
        elsewhere = 1 - row_overlaps(boxes[0], new_boxes[0])
        moved += float((weight * (change + elsewhere)).sum())
        total += float(weight.sum())
    return moved / max(total, 1e-12)


def detection_cost(exact: Sequence[Sequence[NDArray[Any]]], other: Any) -> float:
    """How far detections have moved: from each, by its score, to that of its class most like it.

    Args:
        exact: for each image boxes (n, 4), scores (n,) and labels (n,).
        other: likewise.

    Example:
        >>> box, label = np.array([[0.0, 0, 2, 2]]), np.array([1])
        >>> found = [[box, np.array([score]), label] for score in (0.5, 0.4)]
        >>> round(detection_cost(found[:1], found[1:]), 2)
        0.1
    """
    moved = total = 0.0
    for (boxes, scores, labels), (new_boxes, new_scores, new_labels) in zip(
        exact, other, strict=True
    ):
        away = np.abs(scores[:, None] - new_scores) + 1 - overlaps(boxes, new_boxes)
        away[labels[:, None] != new_labels] = 1.0
        moved += float((scores * np.minimum(away.min(axis=1, initial=1.0), 1.0)).sum())
        total += float(scores.sum())
    return moved / max(total, 1e-12)
