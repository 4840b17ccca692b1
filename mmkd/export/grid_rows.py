"""Grid R-CNN's rows: its detections, whose boxes a second head moves after suppression."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from mmkd.export.detected_rows import detected_rows
from mmkd.heads import Predictions


def grid_rows(
    head: Any,
    features: Sequence[Tensor],
    log_prob: Tensor,
    boxes: Tensor,
    valid: Tensor,
    size: tuple[int, int],
) -> Predictions:
    """A row for each detection, of its class alone; what is lacking is invalid.

    Args:
        head: a ``GridRoIHead``.
        features: of its images, by level.
        log_prob: (B, K, C), of all proposals.
        boxes: (B, K, 1 or C, 4), likewise.
        valid: (B, K), likewise.
        size: (H, W) of the images.
    """
    rows = detected_rows(head.test_cfg, log_prob, boxes, valid, size)
    boxes = rows.boxes
    batch, count = boxes.shape[:2]
    image = torch.arange(batch).to(boxes)[:, None, None].expand(batch, count, 1)
    rois = torch.cat([image, boxes], dim=2).flatten(0, 1)
    extractor = head.grid_roi_extractor
    cut = extractor(features[: len(extractor.featmap_strides)], rois)
    if head.with_shared_head:
        cut = head.shared_head(cut)
    heat = head.grid_head(cut)['fused'].float()
    moved = _voted(head.grid_head, heat, boxes.flatten(0, 1)).view(batch, count, 4)
    return replace(rows, boxes=moved, one_to_one=True)


def _voted(grid_head: Any, heat: Tensor, boxes: Tensor) -> Tensor:
    """Boxes (N, 4) whose sides the grid points near them vote on.

    Args:
        grid_head: which gave ``heat``.
        heat: (N, points, h, w), before the sigmoid.
        boxes: (N, 4).
    """
    points, side, cells = grid_head.grid_points, grid_head.grid_size, heat.size(3)
    best, position = heat.sigmoid().flatten(2).max(dim=2)
    corner = torch.tensor([region[:2] for region in grid_head.sub_regions]).to(position)
    x, y = position % cells + corner[:, 0], position // cells + corner[:, 1]
    width, height = boxes[:, 2:3] - boxes[:, :1], boxes[:, 3:] - boxes[:, 1:2]
    # A heat map covers twice the box, of which each point sees a part.
    x_at = (x.float() + 0.5) / cells * width + boxes[:, :1] - width / 2
    y_at = (y.float() + 0.5) / cells * height + boxes[:, 1:2] - height / 2
    number = range(side)
    sides = (
        (x_at, list(number)),
        (y_at, [i * side for i in number]),
        (x_at, [points - side + i for i in number]),
        (y_at, [(i + 1) * side - 1 for i in number]),
    )
    votes = [(where[:, own] * best[:, own]).sum(1) / best[:, own].sum(1) for where, own in sides]
    return torch.stack(votes, dim=1)
