"""Grid R-CNN's rows: its detections, whose boxes a second head moves after suppression."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mmkd.export.onnx_functions import LEFT_OUT
from mmkd.export.proposals import at, inside, surest_apart
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
    cfg, classes = head.test_cfg, log_prob.size(2)
    scores = (log_prob.exp() * valid[..., None]).flatten(1)
    scores = scores.where(scores > cfg['score_thr'], torch.full_like(scores, LEFT_OUT))
    pairs = inside(boxes, size).expand(-1, -1, classes, -1).flatten(1, 2)
    groups = torch.arange(classes).repeat(log_prob.size(1)).to(scores)
    kept, place = surest_apart(pairs, scores, groups, cfg['nms'], cfg['max_per_img'])
    boxes, there = at(pairs, place), kept > 0
    batch, count = kept.shape
    image = torch.arange(batch).to(boxes)[:, None, None].expand(batch, count, 1)
    rois = torch.cat([image, boxes], dim=2).flatten(0, 1)
    extractor = head.grid_roi_extractor
    cut = extractor(features[: len(extractor.featmap_strides)], rois)
    if head.with_shared_head:
        cut = head.shared_head(cut)
    heat = head.grid_head(cut)['fused'].float()
    moved = _voted(head.grid_head, heat, boxes.flatten(0, 1)).view(batch, count, 4)
    labels = place % classes
    own = torch.arange(classes) == labels[..., None]
    found = kept.clamp(min=0)[..., None].log().where(own, kept.new_tensor(-torch.inf))
    return Predictions(found, moved, valid=there, one_to_one=True)


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


def rows_of_detections(found: Sequence[Any], classes: int) -> Predictions:
    """The detections of a batch as rows.

    Args:
        found: ``InstanceData`` of each image, with ``bboxes``, ``scores`` and ``labels``.
        classes: how many there are.
    """
    most = max(len(one.scores) for one in found)
    like = found[0].scores
    log_prob = like.new_full((len(found), most, classes), -torch.inf)
    boxes, valid = like.new_zeros(len(found), most, 4), torch.zeros(len(found), most) > 0
    for i, one in enumerate(found):
        count = len(one.scores)
        log_prob[i, torch.arange(count), one.labels] = one.scores.log()
        boxes[i, :count], valid[i, :count] = one.bboxes, True
    return Predictions(log_prob, boxes, valid=valid, one_to_one=True)
