"""How far the rows of a student are from what they are to learn."""

import torch
from torch import Tensor
from torch.nn import functional as F

from mmkd.distributed.avg_factor import across_ranks
from mmkd.geometry.multi_level_maps import upcast
from mmkd.heads.predictions import Predictions
from mmkd.losses.functional.iou_losses import IOU_LOSSES
from mmkd.losses.functional.row_targets import RowTargets


def soft_classes(
    preds_S: Predictions, found: RowTargets, whole: Tensor | float | None = None
) -> Tensor:
    """Sum of ``|q - p|`` BCE(logits, q) over rows and classes, by a sum over all ranks.

    Args:
        preds_S: the student's rows.
        found: what they are to learn.
        whole: of this rank. Defaults to None, the sum of q.
    """
    logits = Predictions(upcast(preds_S.log_prob), preds_S.boxes).logits
    error = (found.classes - logits.sigmoid()).abs()
    total = error * F.binary_cross_entropy_with_logits(logits, found.classes, reduction='none')
    if preds_S.valid is not None:
        total = total * preds_S.valid[..., None]
    return total.sum() / across_ranks(found.classes.sum() if whole is None else whole, total)


def pulled_boxes(
    preds_S: Predictions, found: RowTargets, whole: Tensor | float | None = None
) -> Tensor:
    """Sum of w (1 - GIoU) over the pairs, by a sum over all ranks: ``whole``, or that of w."""
    own = upcast(preds_S.boxes).gather(1, found.rows[..., None].expand(-1, -1, 4))
    total = weighted_giou(own, found.boxes, found.weights)
    return total / across_ranks(found.weights.sum() if whole is None else whole, total)


_FAR = 1e9  # pixels: in float32 the area of a larger box overflows


def weighted_giou(own: Tensor, taught: Tensor, weights: Tensor) -> Tensor:
    """Sum of w (1 - GIoU) over pairs of boxes.

    A box without end, as an untrained head's exponential makes it, teaches nothing; and a row of
    weight 0 takes no part, whatever its box, since 0 times infinity is no number.

    Args:
        own: (B, n, 4), the student's.
        taught: (B, n, 4).
        weights: (B, n).

    Example:
        >>> own, taught = torch.ones(1, 2, 4).cumsum(-1), torch.full((1, 2, 4), torch.inf)
        >>> weighted_giou(own, taught, torch.ones(1, 2))
        tensor(0.)
    """
    part = ((weights > 0) & (taught.abs() < _FAR).all(-1))[..., None]
    own, taught = torch.where(part, own, 0.0), torch.where(part, taught, 0.0)
    away = IOU_LOSSES['giou'](own.flatten(0, 1), taught.flatten(0, 1)).view_as(weights)
    return torch.where(part[..., 0], weights * away, 0.0).sum()
