"""What is left of the rows of a head where each object is to be found once."""

from typing import NamedTuple

import torch
from mmcv.ops import batched_nms
from torch import Tensor

from mmkd.geometry.multi_level_maps import upcast
from mmkd.heads.predictions import Predictions

PRE_NMS = 1000  # the surest rows of an image, before suppression


class Detections(NamedTuple):
    """The n detections of an image, the surest first."""

    rows: Tensor  # (n,), which of the P rows each is
    boxes: Tensor  # (n, 4)
    labels: Tensor  # (n,)
    scores: Tensor  # (n,)


@torch.no_grad()
def detections(
    found: Predictions, score_thr: float, iou_thr: float, max_per_img: int
) -> list[Detections]:
    """The detections of each image: a row's surest class, and of rows that overlap the surest.

    Rows of a head without NMS (``one_to_one``) suppress nothing.

    Args:
        found: rows of B images.
        score_thr: rows with a lower score are left out, as are those that are not ``valid``.
        iou_thr: rows of one class with a larger overlap are one object.
        max_per_img: how many, at most.
    """
    score, label = upcast(found.log_prob).exp().max(-1)  # (B, P)
    kept = score >= score_thr
    if found.valid is not None:
        kept = kept & found.valid
    boxes = upcast(found.boxes)
    images = []
    for b in range(len(score)):
        index = kept[b].nonzero().flatten()
        order = score[b, index].argsort(descending=True, stable=True)[:PRE_NMS]
        index = index[order]
        if not found.one_to_one and len(index):
            _, alive = batched_nms(
                boxes[b, index],
                score[b, index],
                label[b, index],
                dict(type='nms', iou_threshold=iou_thr),
            )
            index = index[alive]
        index = index[:max_per_img]
        images.append(Detections(index, boxes[b, index], label[b, index], score[b, index]))
    return images
