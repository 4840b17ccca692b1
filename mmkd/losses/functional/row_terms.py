"""How far the rows of a student are from what they are to learn."""

from torch import Tensor
from torch.nn import functional as F

from mmkd.distributed.avg_factor import across_ranks
from mmkd.geometry.multi_level_maps import upcast
from mmkd.heads.predictions import Predictions
from mmkd.losses.functional.iou_losses import IOU_LOSSES
from mmkd.losses.functional.row_targets import RowTargets


def soft_classes(preds_S: Predictions, found: RowTargets) -> Tensor:
    """Sum of ``|q - p|`` BCE(logits, q) over rows and classes, by the sum of q over all ranks."""
    logits = Predictions(upcast(preds_S.log_prob), preds_S.boxes).logits
    error = (found.classes - logits.sigmoid()).abs()
    total = error * F.binary_cross_entropy_with_logits(logits, found.classes, reduction='none')
    if preds_S.valid is not None:
        total = total * preds_S.valid[..., None]
    return total.sum() / across_ranks(found.classes.sum(), total)


def pulled_boxes(preds_S: Predictions, found: RowTargets) -> Tensor:
    """Sum of w (1 - GIoU) over the pairs, by the sum of w over all ranks."""
    own = upcast(preds_S.boxes).gather(1, found.rows[..., None].expand(-1, -1, 4))
    away = IOU_LOSSES['giou'](own.flatten(0, 1), found.boxes.flatten(0, 1))
    total = (found.weights.flatten() * away).sum()
    return total / across_ranks(found.weights.sum(), total)
