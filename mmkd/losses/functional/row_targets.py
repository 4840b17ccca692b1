"""What the rows of a student are to learn of the rows of a teacher."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from mmdet.structures.bbox import bbox_overlaps
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F

from mmkd.geometry.multi_level_maps import upcast
from mmkd.heads.detections import detections
from mmkd.heads.predictions import Predictions

SAME_OBJECT = 0.65  # overlap above which two rows of a teacher show one object
PRIOR_SIZE = 4  # strides: the side of the box that a level is for
FIT_WEIGHT = 0.1  # of a fitting stride, beside the overlap, in the choice of rows


class RowTargets(NamedTuple):
    """What the rows of a student are to learn, of n pairs in each image."""

    classes: Tensor  # (B, P, C), soft
    rows: Tensor  # (B, n), indices of the student's rows
    boxes: Tensor  # (B, n, 4), the teacher's
    weights: Tensor  # (B, n)


def same_rows(rows_S: Predictions, rows_T: Predictions) -> bool:
    """Whether student and teacher have the same priors in the same order."""
    s, t = rows_S.priors, rows_T.priors
    if s is None or t is None or s.shape != t.shape:
        return False
    return torch.allclose(s, t.to(s), atol=1e-3)


def targets_by_row(rows_S: Predictions, rows_T: Predictions) -> RowTargets:
    """Row i learns of the teacher's row i; rows in the padding of either learn nothing."""
    score = upcast(rows_T.log_prob).exp()  # (B, P, C)
    for valid in (rows_S.valid, rows_T.valid):
        if valid is not None:
            score = score * valid.to(score)[..., None]
    index = torch.arange(score.size(1), device=score.device).expand(score.shape[:2])
    return RowTargets(score, index, upcast(rows_T.boxes), score.amax(-1))


def targets_by_overlap(
    rows_S: Predictions, rows_T: Predictions, top_k: int, candidates: int
) -> RowTargets:
    """Each object that the teacher finds, shown to the student's rows that overlap it most.

    A row must have its centre in the teacher's box. What it learns of a class is the largest of
    alignment x the teacher's score; its alignment with a box is its IoU by the best IoU of all
    candidates for that box.

    Args:
        rows_S: the student's; no gradient flows through the choice.
        rows_T: the teacher's; rows of one object count as the surest of them.
        top_k: how many objects of an image, at most.
        candidates: how many rows learn of each, at most.
    """
    score, own = upcast(rows_T.log_prob).exp(), upcast(rows_S.boxes.detach())
    found = detections(rows_T, 0.0, SAME_OBJECT, top_k)
    most = max((len(objects.rows) for objects in found), default=0)
    near = min(candidates, own.size(1))
    classes = score.new_zeros(*own.shape[:2], score.size(2))
    rows = torch.zeros(len(own), most, near, dtype=torch.long, device=own.device)
    boxes, weights = own.new_zeros(len(own), most, near, 4), own.new_zeros(len(own), most, near)
    for b, objects in enumerate(found):
        n = len(objects.rows)
        choice, iou = _nearness(rows_S, own[b], b, objects.boxes)
        choice, row = choice.topk(near, dim=1)  # (n, near)
        aligned = iou.gather(1, row) * (choice > 0)
        aligned = aligned / aligned.amax(1, keepdim=True).clamp(min=1e-6) if near else aligned
        pairs = aligned[..., None] * score[b, objects.rows][:, None]  # (n, near, C)
        classes[b].scatter_reduce_(
            0, row.flatten()[:, None].expand(-1, score.size(2)), pairs.flatten(0, 1), 'amax'
        )
        rows[b, :n], boxes[b, :n] = row, objects.boxes[:, None]
        weights[b, :n] = objects.scores[:, None] * (choice > 0)
    return RowTargets(classes, rows.flatten(1), boxes.flatten(1, 2), weights.flatten(1))


def _nearness(rows: Predictions, own: Tensor, b: int, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """How well each row of an image suits each box, and their IoU, both (n, P).

    With priors a level of the right size counts beside the overlap, as the student's boxes are
    poor at first.
    """
    iou = bbox_overlaps(boxes, own)
    low, high = boxes[:, None, :2], boxes[:, None, 2:]
    if rows.priors is None:
        centre, choice = (own[:, :2] + own[:, 2:]) / 2, iou
    else:
        priors = rows.priors.to(own)
        centre = priors[:, :2]
        side = (high - low).clamp(min=1).prod(-1).sqrt()  # (n, 1)
        fit = (side / (PRIOR_SIZE * priors[:, 2:].prod(-1).sqrt())).log2().abs()
        choice = iou + FIT_WEIGHT * torch.exp(-fit)
    inside = ((centre > low) & (centre < high)).all(-1)
    if rows.valid is not None:
        inside = inside & rows.valid[b]
    return choice * inside, iou


def joined_targets(
    found: Sequence[RowTargets], shares: Tensor, weights: Sequence[float] | Sequence[Tensor]
) -> RowTargets:
    """What the rows of a student are to learn of several teachers.

    The classes are the mean over the teachers of what a row is to learn of each; a pair with a
    teacher's row counts by the teacher's part of all weights.

    Args:
        found: of each teacher.
        shares: (n, C), the weight of each teacher in each class, which add up to 1; of each image
            (n, B, 1, C).
        weights: of each teacher; of each image (B, 1).
    """
    whole: Any = sum(weights)
    return RowTargets(
        torch.stack([t.classes * share for t, share in zip(found, shares, strict=True)]).sum(0),
        torch.cat([targets.rows for targets in found], dim=1),
        torch.cat([targets.boxes for targets in found], dim=1),
        torch.cat([t.weights * (w / whole) for t, w in zip(found, weights, strict=True)], dim=1),
    )


GIOU_COST = 2.0  # beside the cross-entropy of the classes, in the choice of queries


def least_cost(cost: Tensor, valid: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The pairs of rows and columns of the least cost in all, each in one pair at most.

    Args:
        cost: (P, n).
        valid: (P,), which rows count. Defaults to None, all.

    Example:
        >>> least_cost(torch.tensor([[1.0, 2.0], [0.0, 0.5]]))
        (tensor([0, 1]), tensor([0, 1]))
    """
    if valid is not None:
        cost = cost.masked_fill(~valid[:, None], 1e9)
    pairs = linear_sum_assignment(cost.nan_to_num(1e9).cpu().numpy())
    row, column = (torch.as_tensor(side).to(cost.device) for side in pairs)
    if valid is not None:
        kept = valid[row]
        row, column = row[kept], column[kept]
    return row, column


def targets_one_to_one(rows_S: Predictions, rows_T: Predictions, top_k: int) -> RowTargets:
    """Each object that the teacher finds, shown to the one row of the student that suits it best.

    For students without NMS, as DETR's kin: the others learn that there is nothing. The pairs are
    those of the least cost in all, as such students are trained (arXiv 2005.12872): the
    cross-entropy of the teacher's scores and twice 1 - GIoU.

    Args:
        rows_S: the student's; no gradient flows through the choice.
        rows_T: the teacher's; rows of one object count as the surest of them.
        top_k: how many objects of an image, at most.
    """
    score = upcast(rows_T.log_prob).exp()
    logits = Predictions(upcast(rows_S.log_prob.detach()), rows_S.boxes).logits
    own = upcast(rows_S.boxes.detach())
    most = min(top_k, own.size(1))
    classes = score.new_zeros(*own.shape[:2], score.size(2))
    rows = torch.zeros(len(own), most, dtype=torch.long, device=own.device)
    boxes, weights = own.new_zeros(len(own), most, 4), own.new_zeros(len(own), most)
    for b, found in enumerate(detections(rows_T, 0.0, SAME_OBJECT, most)):
        taught = score[b, found.rows]  # (n, C)
        away = 1 - bbox_overlaps(own[b], found.boxes, mode='giou')
        apart = F.softplus(logits[b]).sum(-1, keepdim=True) - logits[b] @ taught.t()
        cost = apart + GIOU_COST * away  # (P, n)
        row, column = least_cost(cost, None if rows_S.valid is None else rows_S.valid[b])
        classes[b, row] = taught[column]
        rows[b, : len(row)] = row
        boxes[b, : len(row)], weights[b, : len(row)] = found.boxes[column], found.scores[column]
    return RowTargets(classes, rows, boxes, weights)
