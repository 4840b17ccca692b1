"""Which convolutions of a file are quantised: all, unless the mAP falls too far."""

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmkd.export.int8.post_training import PostTraining
from mmkd.export.same_detections import row_overlaps
from mmkd_onnx import Detector, load

#: How many of the calibration images the convolutions are compared on.
_LOOKED_AT = 8


def choose(
    tools: PostTraining,
    finished: Callable[[Any], bytes],
    holds: Callable[[bytes], bool | None],
    inputs: Sequence[NDArray[Any]],
) -> tuple[bytes, list[str]]:
    """Quantise all convolutions; if the mAP falls too far, leave out those that cost most.

    What each costs is measured: it alone is quantised, and the rows are compared. Then 1, 2, 3, 5,
    8, ... of the costliest stay in float32, until the mAP holds.

    Args:
        tools: the file in float32.
        finished: an ONNX model as the content of a file.
        holds: whether the mAP of a file is near enough; None if it is not measured.
        inputs: batches (1, 3, H, W) to compare rows on.

    Returns:
        The content of the file, and the convolutions that are left out. If the mAP does not hold
        with half of them, all are quantised: the check will say so.
    """
    whole = finished(tools.quantised(tools.convolutions))
    if holds(whole) is not False:
        return whole, []
    costs = _costs(tools, finished, inputs[:_LOOKED_AT])
    dearest = sorted(costs, key=lambda name: -costs[name])
    count, step = 1, 1
    while count <= max(len(dearest) // 2, 1) and count < len(dearest):
        left_out = dearest[:count]
        content = finished(tools.quantised([c for c in tools.convolutions if c not in left_out]))
        if holds(content):
            return content, left_out
        count, step = count + step, count
    return whole, []


def _costs(
    tools: PostTraining, finished: Callable[[Any], bytes], inputs: Sequence[NDArray[Any]]
) -> dict[str, float]:
    """By the name of each convolution, how far the rows move if it alone is quantised."""
    exact = _rows(finished(tools.quantised([])), inputs)
    return {
        name: row_cost(exact, _rows(finished(tools.quantised([name])), inputs))
        for name in tools.convolutions
    }


def _rows(content: bytes, inputs: Sequence[NDArray[Any]]) -> list[list[NDArray[Any]]]:
    with TemporaryDirectory() as folder:
        file = Path(folder) / 'rows.onnx'
        file.write_bytes(content)
        detector: Detector = load(file)
        return [detector.raw(batch) for batch in inputs]


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
    for (boxes, scores), (new_boxes, new_scores) in zip(exact, other, strict=True):
        weight = scores[0].max(axis=1).astype(np.float64)
        change = np.abs(scores[0] - new_scores[0]).max(axis=1)
        elsewhere = 1 - row_overlaps(boxes[0], new_boxes[0])
        moved += float((weight * (change + elsewhere)).sum())
        total += float(weight.sum())
    return moved / max(total, 1e-12)
