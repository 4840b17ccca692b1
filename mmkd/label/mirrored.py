"""An image and its mirror image, looked at as two views of one: test-time augmentation."""

from collections.abc import Sequence

import numpy as np

from mmkd.heads.fusion import fuse_detections
from mmkd.teachers.outside_detectors import Found

#: Overlap above which two views show one object.
SAME = 0.6


def mirrored_back(found: Found, width: int) -> Found:
    """What was found in a mirror image, in the image itself, of ``width`` pixels."""
    boxes = found.boxes.copy()
    boxes[:, [0, 2]] = width - found.boxes[:, [2, 0]]
    return found._replace(boxes=boxes)


def fused(views: Sequence[Found]) -> Found:
    """The objects that several views of an image show, by :func:`mmkd.heads.fusion.fuse_boxes`.

    All views count the same, so that what one of two shows alone is half as sure, of each class.

    Args:
        views: of one image, in its pixels.
    """
    labels = [view.labels.astype(int) for view in views]
    classes = 1 + max((int(label) for of_view in labels for label in of_view), default=0)
    shares = np.full((len(views), classes), 1 / len(views))
    found = fuse_detections(
        [view.boxes for view in views],
        [view.scores for view in views],
        labels,
        shares,
        SAME,
    )
    told = [view.distribution for view in views if view.distribution is not None]
    distribution = None
    if len(told) == len(views) and len(found.scores):
        distribution = np.zeros((len(found.scores), told[0].shape[1]), np.float32)
        known = found.places >= 0
        np.add.at(distribution, found.places[known], np.concatenate(told)[known] / len(views))
    return Found(
        found.boxes.astype(np.float32),
        found.scores.astype(np.float32),
        found.labels.astype(np.int64),
        distribution,
    )
