"""The score of each class, of what a detector of mmdet or MMYOLO detects."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmkd.heads import Predictions
from mmkd.predict.detector import Detector, Prepared, groups
from mmkd.recorders.predictions_recorder import PredictionsRecorder
from mmkd.teachers.outside_detectors import Found


def detect_with_distributions(detector: Detector, prepared: Sequence[Prepared]) -> list[Found]:
    """What is found in prepared images, each detection with the scores of the row that it is.

    The rows are those of the same pass. A detection's row is the one whose box overlaps it most,
    of those that score its class alike.

    Args:
        detector: finds them.
        prepared: the images.

    Raises:
        ValueError: the rows of its head cannot be read.
    """
    recorder = PredictionsRecorder()
    try:
        recorder.initialize(detector.model)
    except ValueError as error:
        raise ValueError(
            'the scores of all classes are read from the rows of a head, but of '
            f'{type(detector.model).__name__} they cannot be: {error} Label without soft scores.'
        ) from None
    found: list[Found] = []
    for group in groups(prepared, len(prepared), lambda one: one):
        with recorder:
            detections = detector.run(group)
        rows = recorder.get_record_data()
        for i, one in enumerate(detections):
            boxes, scores = of_image(rows, i, group[i])
            found.append(
                Found(
                    one.boxes,
                    one.scores,
                    one.labels,
                    distribution_of(one.boxes, one.scores, one.labels, boxes, scores),
                )
            )
    recorder.reset_data_buffer()
    return found


def of_image(rows: Predictions, i: int, prepared: Prepared) -> tuple[Tensor, Tensor]:
    """The rows of an image in its own pixels, (P, 4) or (P, C, 4), and their scores (P, C).

    Boxes are clipped to the image, as those of detections are.
    """
    boxes = rows.boxes[i] if rows.class_boxes is None else rows.class_boxes[i]
    meta = prepared.data['data_samples'].metainfo
    pad = meta.get('pad_param')
    if pad is not None:
        boxes = boxes - boxes.new_tensor([pad[2], pad[0], pad[2], pad[0]])
    scale = meta.get('scale_factor')
    if scale is not None:
        boxes = boxes / boxes.new_tensor([*scale[:2], *scale[:2]])
    height, width = prepared.pixels.shape[:2]
    sides = boxes.new_tensor([width, height, width, height])
    boxes = torch.minimum(boxes.clamp(min=0), sides)
    return boxes.float().cpu(), rows.log_prob[i].float().exp().cpu()


def distribution_of(
    boxes: NDArray[Any],
    scores: NDArray[Any],
    labels: NDArray[Any],
    row_boxes: Tensor,
    row_scores: Tensor,
) -> NDArray[Any]:
    """The scores of the row that each detection is.

    Args:
        boxes: (n, 4) of the detections.
        scores: (n,).
        labels: (n,).
        row_boxes: (P, 4), or (P, C, 4) with a box for each class.
        row_scores: (P, C).

    Returns:
        np.ndarray: (n, C); its own score stands at its class. Where no row is alike, the others
        are 0.
    """
    found = np.zeros((len(scores), row_scores.size(1)), np.float32)
    for i, (box, score, label) in enumerate(zip(boxes, scores, labels, strict=True)):
        own = row_boxes if row_boxes.dim() == 2 else row_boxes[:, label]
        overlap = _overlap(torch.from_numpy(np.asarray(box)), own)
        likeness = overlap - (row_scores[:, label] - float(score)).abs()
        row = int(likeness.argmax())
        if overlap[row] >= 0.5:
            found[i] = row_scores[row].numpy()
        found[i, label] = score
    return found.clip(0, 1)


def _overlap(box: Tensor, boxes: Tensor) -> Tensor:
    sides = (torch.minimum(box[2:], boxes[:, 2:]) - torch.maximum(box[:2], boxes[:, :2])).clamp(0)
    shared = sides.prod(1)
    areas = (boxes[:, 2:] - boxes[:, :2]).clamp(0).prod(1) + (box[2:] - box[:2]).prod()
    return shared / (areas - shared).clamp(min=1e-6)
