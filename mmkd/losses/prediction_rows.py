"""Soft classes and boxes of any teacher on the rows of any student."""

from typing import NamedTuple

import torch
from mmdet.structures.bbox import bbox_overlaps
from mmrazor.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional as F

from mmkd.distributed.avg_factor import across_ranks
from mmkd.geometry.multi_level_maps import describe, upcast
from mmkd.heads.predictions import Predictions
from mmkd.losses.functional.iou_losses import IOU_LOSSES
from mmkd.losses.statistic import Statistic

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


@MODELS.register_module()
class PredictionRows(nn.Module):
    r"""Teach a student what its teacher predicts, whatever their heads.

    .. math::

        L = \frac{1}{\sum q} \sum_{rows, classes} |q - \sigma(z)| \, BCE(z, q)
            + \frac{w_{box}}{\sum w} \sum_{pairs} w \, (1 - GIoU(s, t))

    z are the log-odds of the student's scores, so that what it multiplies them by (objectness,
    centerness) is taught along. With equal priors q of a row is the teacher's score of the same
    row, and each row is a pair of weight w, its highest score. Otherwise the teacher's ``top_k``
    surest rows are each shown to the ``candidates`` rows of the student that overlap them most:
    :func:`targets_by_overlap`. Record both sides with ``type='Predictions'``.

    Source:
        Quality focal loss (Li et al., NeurIPS 2020, arXiv 2006.04388, eq. 4, with beta 1) with
        the teacher's score as the quality; the choice of rows follows ATSS (arXiv 1912.02424) and
        the alignment TOOD (arXiv 2108.07755).

    Differs:
        Rows are chosen by overlap with the teacher's boxes, not with ground truth, which the
        loss does not need.

    Units:
        Means over what the teacher sees, over all ranks: of the summed scores (at least 1) and of
        the summed weights (at least 1). Independent of batch, image size and number of rows.

    Args:
        loss_weight (float): Defaults to 1.0.
        box_weight (float): of the boxes beside the classes. Defaults to 2.0.
        top_k (int): the teacher's rows of an image, where priors differ. Defaults to 20.
        candidates (int): the student's rows for each of them. Defaults to 9.

    Raises:
        ValueError: for numbers below 1, for records that are no Predictions, and for another
            number of images or classes.

    Example:
        >>> box = torch.tensor([[[0.0, 0.0, 8.0, 8.0]]])
        >>> sure, unsure = (torch.full((1, 1, 1), p).log() for p in (0.999, 0.5))
        >>> student, teacher = Predictions(unsure, box), Predictions(sure, box)
        >>> PredictionRows()(student, teacher), PredictionRows()(teacher, teacher)
        (tensor(0.3459), tensor(0.))
    """

    needs_equal = ('classes',)
    statistics = {'cls': Statistic('its classes'), 'box': Statistic('its boxes')}

    def __init__(
        self,
        loss_weight: float = 1.0,
        box_weight: float = 2.0,
        top_k: int = 20,
        candidates: int = 9,
    ) -> None:
        super().__init__()
        for name, value in (('top_k', top_k), ('candidates', candidates)):
            if value < 1:
                raise ValueError(f'{name} must be at least 1, got {value}.')
        self.loss_weight = loss_weight
        self.box_weight = box_weight
        self.top_k = top_k
        self.candidates = candidates
        self.logs: dict[str, Tensor] = {}

    def forward(self, preds_S: Predictions, preds_T: Predictions) -> Tensor:
        """Compute the loss; ``logs`` gets its parts 'cls' and 'box', both weighted.

        Args:
            preds_S: the student's rows.
            preds_T: the teacher's, of any number and kind.
        """
        for name, rows in (('preds_S', preds_S), ('preds_T', preds_T)):
            if not isinstance(rows, Predictions):
                raise ValueError(
                    f'{name} must be Predictions, got {describe(rows)}. Record it with '
                    "`type='Predictions'`."
                )
        s, t = preds_S.log_prob, preds_T.log_prob
        if s.size(0) != t.size(0) or s.size(2) != t.size(2):
            raise ValueError(
                'student and teacher must see the same images and score the same classes, got '
                f'log_prob of {tuple(s.shape)} and {tuple(t.shape)} (images, rows, classes). Take '
                'a teacher of these classes.'
            )
        preds_T = preds_T.detach()
        with torch.no_grad(), torch.autocast(s.device.type, enabled=False):
            found = (
                targets_by_row(preds_S, preds_T)
                if same_rows(preds_S, preds_T)
                else targets_by_overlap(preds_S, preds_T, self.top_k, self.candidates)
            )
        with torch.autocast(s.device.type, enabled=False):
            cls = self._classes(preds_S, found)
            box = self.box_weight * self._boxes(preds_S, found)
        self.logs = {
            'cls': self.loss_weight * cls.detach(),
            'box': self.loss_weight * box.detach(),
        }
        return self.loss_weight * (cls + box)

    @staticmethod
    def _classes(preds_S: Predictions, found: RowTargets) -> Tensor:
        logits = Predictions(upcast(preds_S.log_prob), preds_S.boxes).logits
        error = (found.classes - logits.detach().sigmoid()).abs()
        total = error * F.binary_cross_entropy_with_logits(logits, found.classes, reduction='none')
        if preds_S.valid is not None:
            total = total * preds_S.valid[..., None]
        return total.sum() / across_ranks(found.classes.sum(), total)

    @staticmethod
    def _boxes(preds_S: Predictions, found: RowTargets) -> Tensor:
        own = upcast(preds_S.boxes).gather(1, found.rows[..., None].expand(-1, -1, 4))
        away = IOU_LOSSES['giou'](own.flatten(0, 1), found.boxes.flatten(0, 1))
        total = (found.weights.flatten() * away).sum()
        return total / across_ranks(found.weights.sum(), total)
