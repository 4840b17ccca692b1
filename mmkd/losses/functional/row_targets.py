"""What the rows of a student are to learn of the rows of a teacher."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from mmdet.structures.bbox import bbox_overlaps
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F

from mmkd.geometry.multi_level_maps import upcast
from mmkd.heads.detections import detections
from mmkd.heads.predictions import Predictions

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
    """The teacher's surest rows, each shown to the student's rows that overlap it most.

    A row must have its centre in the teacher's box. What it learns of a class is the largest of
    alignment x the teacher's score; its alignment with a box is its IoU by the best IoU of all
    candidates for that box.

    Args:
        rows_S: the student's; no gradient flows through the choice.
        rows_T: the teacher's.
        top_k: how many of the teacher's rows of an image, at most.
        candidates: how many rows learn of each, at most.
    """
    score = upcast(rows_T.log_prob).exp()
    if rows_T.valid is not None:
        score = score * rows_T.valid.to(score)[..., None]
    weight, best = score.amax(-1).topk(min(top_k, score.size(1)), dim=1)  # (B, K)
    taught = score.gather(1, best[..., None].expand(-1, -1, score.size(2)))  # (B, K, C)
    boxes = upcast(rows_T.boxes).gather(1, best[..., None].expand(-1, -1, 4))  # (B, K, 4)

    own = upcast(rows_S.boxes.detach())
    if own.size(1) == 0 or boxes.size(1) == 0:  # no proposals
        nothing = boxes.new_zeros(len(own), 0)
        classes = boxes.new_zeros(*own.shape[:2], score.size(2))
        return RowTargets(classes, nothing.long(), boxes[:, :0], nothing)
    iou = bbox_overlaps(own, boxes)  # (B, P, K)
    low, high = boxes[:, None, :, :2], boxes[:, None, :, 2:]
    if rows_S.priors is None:
        centre = ((own[..., :2] + own[..., 2:]) / 2)[:, :, None]  # (B, P, 1, 2)
        choice = iou
    else:
        priors = rows_S.priors.to(own)
        centre = priors[None, :, None, :2]
        side = (high - low).clamp(min=1).prod(-1).sqrt()  # (B, 1, K)
        fit = (side / (PRIOR_SIZE * priors[:, 2:].prod(-1).sqrt()[:, None])).log2().abs()
        choice = iou + FIT_WEIGHT * torch.exp(-fit)
    inside = ((centre > low) & (centre < high)).all(-1)  # (B, P, K)
    if rows_S.valid is not None:
        inside = inside & rows_S.valid[..., None]
    choice, rows = (choice * inside).topk(min(candidates, own.size(1)), dim=1)  # (B, k, K)
    aligned = iou.gather(1, rows) * (choice > 0)
    aligned = aligned / aligned.amax(1, keepdim=True).clamp(min=1e-6)

    pairs = (aligned[..., None] * taught[:, None]).flatten(1, 2)  # (B, k * K, C)
    flat = rows.flatten(1)
    classes = pairs.new_zeros(*own.shape[:2], pairs.size(2)).scatter_reduce_(
        1, flat[..., None].expand_as(pairs), pairs, 'amax'
    )
    return RowTargets(
        classes,
        flat,
        boxes[:, None].expand(-1, rows.size(1), -1, -1).flatten(1, 2),
        (weight[:, None] * (choice > 0)).flatten(1),
    )


def joined_targets(
    found: Sequence[RowTargets], shares: Tensor, weights: Sequence[float]
) -> RowTargets:
    """What the rows of a student are to learn of several teachers.

    The classes are the mean over the teachers of what a row is to learn of each; a pair with a
    teacher's row counts by the teacher's part of all weights.

    Args:
        found: of each teacher.
        shares: (n, C), the weight of each teacher in each class, which add up to 1.
        weights: of each teacher.
    """
    whole = sum(weights)
    return RowTargets(
        torch.stack([t.classes * share for t, share in zip(found, shares, strict=True)]).sum(0),
        torch.cat([targets.rows for targets in found], dim=1),
        torch.cat([targets.boxes for targets in found], dim=1),
        torch.cat([t.weights * (w / whole) for t, w in zip(found, weights, strict=True)], dim=1),
    )


SAME_OBJECT = 0.65  # overlap above which two rows of a teacher show one object
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
