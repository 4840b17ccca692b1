"""``FCOSHead``: targets of a whole batch."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mmkd.targets.ground_truth import GroundTruth, in_order

_OUTSIDE = 1e8  # the area of a box that a point is not for, as in mmdet


def get_targets(
    head: Any, points: Sequence[Tensor], batch_gt_instances: Sequence[Any]
) -> tuple[list[Tensor], list[Tensor]]:
    """As the head's own."""
    sizes = [len(level) for level in points]
    flat = torch.cat(list(points))
    levels = torch.repeat_interleave(torch.tensor(sizes)).to(flat.device)
    ranges = flat.new_tensor(head.regress_ranges)[levels]
    radius = None
    if head.center_sampling:
        radii = [stride * head.center_sample_radius for stride in head.strides[: len(sizes)]]
        radius = flat.new_tensor(radii)[levels]
    truth = GroundTruth(batch_gt_instances, flat)
    order: list[int] = []
    parts = []
    for images in truth.blocks(len(flat)):
        order += images
        parts.append(_of_block(truth.padded(images), flat, ranges, radius))
    which, distances, found = (in_order(list(part), order) for part in zip(*parts, strict=True))
    has_boxes = torch.tensor([count > 0 for count in truth.counts]).to(flat.device)[:, None]
    labels = torch.where(found & has_boxes, truth.labels[truth.first + which], head.num_classes)
    distances = torch.where(has_boxes[..., None], distances, 0)
    box_targets = [
        (level / stride if head.norm_on_bbox else level).reshape(-1, 4)
        for level, stride in zip(distances.split(sizes, 1), head.strides, strict=False)
    ]
    return [level.reshape(-1) for level in labels.split(sizes, 1)], box_targets


def _of_block(
    boxes: Tensor, points: Tensor, ranges: Tensor, radius: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """The smallest box that each point is for.

    Args:
        boxes: (n, G, 4), those of the images and boxes of zeros, which no point is in.
        points: (P, 2).
        ranges: (P, 2), the least and the greatest distance that a point regresses.
        radius: (P,) half the side of the region around a box's centre whose points are for it;
            None for the whole box.

    Returns:
        tuple: for each point the number of the box, (n, P); its distances to the box's sides
        (n, P, 4), left, top, right, bottom; whether it is for the box, (n, P).
    """
    x, y = points.t()
    x1, y1, x2, y2 = boxes.unbind(-1)
    areas = ((x2 - x1) * (y2 - y1))[..., None]
    x1, y1, x2, y2 = (side[..., None] for side in (x1, y1, x2, y2))
    sides = x - x1, y - y1, x2 - x, y2 - y
    greatest = torch.maximum(torch.maximum(*sides[:2]), torch.maximum(*sides[2:]))
    if radius is None:
        inner = sides
    else:
        centre_x, centre_y = (x1 + x2) / 2, (y1 + y2) / 2
        inner = (
            x - torch.maximum(centre_x - radius, x1),
            y - torch.maximum(centre_y - radius, y1),
            torch.minimum(centre_x + radius, x2) - x,
            torch.minimum(centre_y + radius, y2) - y,
        )
    least = torch.minimum(torch.minimum(*inner[:2]), torch.minimum(*inner[2:]))
    inside = (least > 0) & (greatest >= ranges[:, 0]) & (greatest <= ranges[:, 1])
    areas = torch.where(inside, areas, _OUTSIDE)
    padding = (boxes == 0).all(dim=-1)
    area, which = areas.masked_fill_(padding[..., None], torch.inf).min(dim=1)
    chosen = boxes.gather(1, which[..., None].expand(-1, -1, 4))
    lefts_tops, rights_bottoms = points - chosen[..., :2], chosen[..., 2:] - points
    return which, torch.cat([lefts_tops, rights_bottoms], dim=-1), area != _OUTSIDE
