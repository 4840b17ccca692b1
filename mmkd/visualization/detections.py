"""Detections drawn on the image that they were found in, with mmdet's own visualizer."""

import functools
import warnings
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.structures import InstanceData
from numpy.typing import NDArray


def draw_detections(
    pixels: NDArray[Any],
    boxes: NDArray[Any],
    scores: NDArray[Any],
    labels: NDArray[Any],
    classes: Sequence[str],
    masks: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Draw boxes, names and scores.

    Args:
        pixels: (H, W) or (H, W, channels), BGR, of any depth: brought to 8 bits for the eye.
        boxes: (n, 4): x1, y1, x2, y2.
        scores: (n,).
        labels: (n,), places in ``classes``.
        classes: names.
        masks: (n, H, W), bool. Defaults to None.

    Returns:
        np.ndarray: (H, W, 3), BGR, uint8.
    """
    from mmdet.structures import DetDataSample

    image = for_the_eye(pixels)
    if not len(boxes):
        return image
    found = InstanceData(
        bboxes=torch.from_numpy(np.asarray(boxes, dtype=np.float32)),
        scores=torch.from_numpy(np.asarray(scores, dtype=np.float32)),
        labels=torch.from_numpy(np.asarray(labels, dtype=np.int64)),
    )
    if masks is not None:
        found.masks = torch.from_numpy(masks)
    visualizer = _visualizer()
    visualizer.dataset_meta = dict(classes=tuple(classes), palette='random')
    sample = DetDataSample(pred_instances=found)
    with warnings.catch_warnings():  # of each box that ends at a border, as many do
        warnings.filterwarnings('ignore', r'Warning: The \w+ is out of bounds', UserWarning)
        visualizer.add_datasample(
            '', image[..., ::-1].copy(), sample, draw_gt=False, pred_score_thr=0
        )
    return np.ascontiguousarray(visualizer.get_image()[..., ::-1])


@functools.cache
def _visualizer() -> Any:
    from mmdet.visualization import DetLocalVisualizer

    # No instance that the rest of a program finds, and no backend that stores what is drawn.
    return DetLocalVisualizer(name='mmkd_detections')


def for_the_eye(pixels: NDArray[Any]) -> NDArray[Any]:
    """An image of any depth and channels as (H, W, 3), BGR, uint8.

    >>> for_the_eye(np.array([[0, 4095]], dtype=np.uint16)).tolist()
    [[[0, 0, 0], [255, 255, 255]]]
    """
    image = pixels if pixels.ndim == 3 else pixels[..., None]
    if image.dtype != np.uint8:
        most = float(image.max(initial=0))
        image = image.astype(np.float32)
        if most > 255:
            image = image * (255 / most)
        image = image.clip(0, 255).round().astype(np.uint8)
    if image.shape[2] not in (3, 4):
        image = image[..., :1].repeat(3, axis=2)
    return np.ascontiguousarray(
        cv2.cvtColor(image, cv2.COLOR_BGRA2BGR) if image.shape[2] == 4 else image
    )
