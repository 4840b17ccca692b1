"""Proposals as ``RPNHead`` chooses them, in operators that a graph can have."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mmkd.export.onnx_functions import LEFT_OUT, Suppressed
from mmkd.heads import Batch, read

#: What may be set of a suppression; it is split by group from ``split_thr`` on, with the same
#: outcome.
PLAIN_NMS = {'type', 'iou_threshold', 'iou_thr', 'class_agnostic', 'split_thr'}


def proposals(rpn: Any, features: Sequence[Tensor], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Boxes (B, K, 4) and which of them are there (B, K), as ``RPNHead.predict`` chooses them."""
    outputs = rpn(features)
    found = read(rpn, outputs, Batch(size))
    counts = [int(maps.shape[-2] * maps.shape[-1] * rpn.num_base_priors) for maps in outputs[0]]
    most = rpn.test_cfg.get('nms_pre', -1)
    chosen = []
    levels = found.log_prob[..., 0].exp().split(counts, 1), found.boxes.split(counts, 1)
    for level, (scores, boxes) in enumerate(zip(*levels, strict=True)):
        if 0 < most < counts[level]:
            scores, place = scores.topk(most)
            boxes = at(boxes, place)
        boxes = inside(boxes, size) if getattr(rpn.bbox_coder, 'clip_border', True) else boxes
        chosen.append((scores, boxes, scores.new_full(scores.shape[1:], level)))
    scores, boxes = (torch.cat([one[i] for one in chosen], dim=1) for i in (0, 1))
    least = rpn.test_cfg.get('min_bbox_size', -1)
    if least >= 0:
        large = (boxes[..., 2:] - boxes[..., :2] > least).all(2)
        scores = scores.where(large, torch.full_like(scores, LEFT_OUT))
    groups = torch.cat([one[2] for one in chosen])
    scores, place = surest_apart(
        boxes, scores, groups, rpn.test_cfg['nms'], rpn.test_cfg['max_per_img']
    )
    there = scores >= 0
    boxes = at(boxes, place)
    return boxes.where(there[..., None], torch.zeros_like(boxes)), there


def surest_apart(
    boxes: Tensor, scores: Tensor, groups: Tensor, nms: Mapping[str, Any], most: int
) -> tuple[Tensor, Tensor]:
    """The surest boxes that no surer one of their group overlaps by more than a threshold.

    Args:
        boxes: (B, P, 4).
        scores: (B, P); negative: left out.
        groups: (P,), a number for each place.
        nms: the settings of a suppression, of those in ``PLAIN_NMS``.
        most: how many; 0 or less: all.

    Returns:
        Scores (B, K), the surest first and negative where there are no more, and places (B, K).
    """
    moved = boxes
    if not nms.get('class_agnostic', False):
        # Groups lie apart, so that they do not suppress each other: as far as mmcv moves them,
        # since the overlaps of boxes that are moved are rounded.
        far = boxes.where((scores >= 0)[..., None], torch.zeros_like(boxes)).amax((1, 2)) + 1
        moved = boxes + (groups * far[:, None])[..., None]
    iou = float(nms.get('iou_threshold', nms.get('iou_thr', 0.5)))
    kept: Any = Suppressed.apply(moved, scores, iou)
    count = int(kept.shape[1])
    kept_scores, place = kept.topk(min(most, count) if most > 0 else count)
    return kept_scores, place


def at(boxes: Tensor, place: Tensor) -> Tensor:
    """Boxes (B, K, 4) at places (B, K) among (B, P, 4)."""
    return boxes.gather(1, place[..., None].expand(-1, -1, 4))


def inside(boxes: Tensor, size: tuple[int, int], border: int = 0) -> Tensor:
    """Boxes (..., 4) clipped to an image (H, W), without its last ``border`` pixels."""
    limit = [size[1] - border, size[0] - border] * 2
    return torch.minimum(boxes.clamp(min=0), boxes.new_tensor(limit))
