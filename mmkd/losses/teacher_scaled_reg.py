"""Regression towards the teacher's boxes, where the teacher sees an object."""

from typing import Any

import torch
from mmrazor.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional as F

from mmkd.distributed.avg_factor import across_ranks
from mmkd.geometry.multi_level_maps import (
    Levels,
    as_levels,
    describe,
    flatten_levels,
    paired_levels,
)
from mmkd.heads.level_anchors import build_task_util
from mmkd.heads.level_maps import check_score_thr, foreground
from mmkd.losses.functional.iou_losses import IOU_LOSSES
from mmkd.losses.statistic import Statistic


@MODELS.register_module()
class TeacherScaledReg(nn.Module):
    r"""Teach a softmax head's boxes what the teacher's are, the more the surer it sees an object.

    With w = 1 - P_T(background), over all priors:

    .. math::

        L = \frac{\sum w \, d(s, t)}{\sum w}

    d is smooth L1 of the encoded boxes, summed over the coordinates, or an IoU loss of the decoded
    ones. Unlike :class:`TeacherBoundedReg` it needs no ground truth: the teacher's box is the
    target, on every prior from which the teacher finds an object. Where annotations are inexact, a
    teacher is less so: it has averaged over many.

    Source:
        The box term of Mehta & Ozturk 2018, "Object detection at 200 frames per second" (arXiv
        1805.06361), section 3.1, whose objectness a softmax head does not have. Smooth L1 is Fast
        R-CNN's (Girshick 2015, eq. 3); the IoU losses are mmdet's.

    Differs:
        1 - P(background) in place of objectness; smooth L1, in the units that the head itself is
        trained in, or an IoU loss, in place of the square; a mean over w in place of all priors.

    Units:
        Divided by the sum of w over all ranks, so a mean over the teacher's objects, of 1 - IoU or
        the sum over the 4 *encoded* coordinates: independent of batch, image size and number of
        levels.

    Args:
        beta (float): where the square becomes linear, in encoded units; 0 for L1. Keep it equal
            to the head's ``smoothl1_beta``. Defaults to 1.0.
        loss_weight (float): Defaults to 1.0.
        box_loss (str): 'smooth_l1', 'iou', 'giou', 'diou' or 'ciou'. Defaults to 'smooth_l1'.
        prior_generator (dict, optional): the heads' own, for the IoU losses. Defaults to None, in
            a pair to that of the head.
        bbox_coder (dict, optional): likewise.
        score_thr (float): priors of a lower w are left out. Defaults to 0.0.

    Raises:
        ValueError: for a negative beta, an unknown ``box_loss`` or one without priors and coder, a
            ``score_thr`` outside [0, 1), and for maps that do not fit together.

    Example:
        >>> student, teacher = torch.full((1, 4, 1, 1), 3.0), torch.full((1, 4, 1, 1), 1.0)
        >>> TeacherScaledReg()(student, teacher, torch.zeros(1, 2, 1, 1))  # 4 * (2 - 0.5)
        tensor(6.)
    """

    needs_equal = ('classes', 'priors', 'coder')
    teacher_reads = {'scores_T': 'softmax'}
    softmax_scores = ('scores_T',)
    from_models = {'prior_generator': 'priors', 'bbox_coder': 'coder'}
    statistics = {
        'foreground': Statistic(
            'mean probability that the teacher gives to an object in a prior',
            'The teacher sees no object: look at its mAP and preprocessing above.',
        )
    }

    def __init__(
        self,
        beta: float = 1.0,
        loss_weight: float = 1.0,
        box_loss: str = 'smooth_l1',
        prior_generator: Any = None,
        bbox_coder: Any = None,
        score_thr: float = 0.0,
    ) -> None:
        super().__init__()
        if beta < 0:
            raise ValueError(f'beta must not be negative, got {beta}.')
        check_score_thr(score_thr)
        if box_loss not in ('smooth_l1', *IOU_LOSSES):
            raise ValueError(
                f'box_loss must be one of smooth_l1, {", ".join(IOU_LOSSES)}, got {box_loss!r}.'
            )
        if box_loss in IOU_LOSSES and (prior_generator is None or bbox_coder is None):
            raise ValueError(
                f'box_loss={box_loss!r} decodes boxes and needs prior_generator and bbox_coder, '
                f"got {prior_generator} and {bbox_coder}. Give the head's own configs, or take "
                "box_loss='smooth_l1'."
            )
        self.box_loss = box_loss
        self.prior_generator = build_task_util(prior_generator)
        self.bbox_coder = build_task_util(bbox_coder)
        self.score_thr = score_thr
        self.beta = beta
        self.loss_weight = loss_weight
        self.logs: dict[str, Tensor] = {}

    def forward(self, preds_S: Levels, preds_T: Levels, scores_T: Levels) -> Tensor:
        """Compute the loss; ``logs`` gets 'foreground', the mean of w.

        Args:
            preds_S: levels (B, A * 4, H, W), encoded boxes.
            preds_T: the teacher's, of the same shapes.
            scores_T: the teacher's class logits, levels (B, A * (C + 1), H, W).
        """
        levels_S, levels_T = paired_levels(preds_S, preds_T, 'priors')
        scores = [
            level.detach().to(levels_S[0].device) for level in as_levels(scores_T, 'scores_T')
        ]
        cells = [(s.size(0), *s.shape[2:]) for s in levels_S]
        anchors = [s.size(1) // 4 for s in levels_S]
        width = scores[0].size(1) // max(anchors[0], 1)  # C + 1
        fits = (
            width >= 2
            and all(s.size(1) == 4 * a > 0 for s, a in zip(levels_S, anchors, strict=True))
            and [(s.size(0), *s.shape[2:]) for s in scores] == cells
            and [s.size(1) for s in scores] == [a * width for a in anchors]
        )
        if not fits:
            raise ValueError(
                'scores_T must hold C + 1 >= 2 channels for each prior that has 4 in preds_S, got '
                f'{describe(scores)} for boxes {describe(levels_S)}. Map preds_S and preds_T to '
                "the box maps (`data_idx=1` of the head's output), scores_T to the class maps "
                '(`data_idx=0`) of a softmax head.'
            )
        boxes_S, boxes_T = flatten_levels(levels_S, 4), flatten_levels(levels_T, 4)
        weight = foreground(flatten_levels(scores, width))  # (B, P)
        self.logs = {'foreground': weight.mean()}
        boxes = [boxes_S, boxes_T.to(boxes_S.dtype)]
        if self.box_loss in IOU_LOSSES:
            boxes.append(self._priors(levels_S, boxes_S).expand_as(boxes_S))
        if self.score_thr:
            kept = weight >= self.score_thr
            boxes, weight = [rows[kept] for rows in boxes], weight[kept]
        distance = self._distance(*boxes)
        total = across_ranks(weight.sum(), boxes_S, 1e-6)
        return self.loss_weight * (weight * distance).sum() / total

    def _distance(self, boxes_S: Tensor, boxes_T: Tensor, priors: Tensor | None = None) -> Tensor:
        """(...) of encoded boxes (..., 4)."""
        if priors is None:
            return F.smooth_l1_loss(boxes_S, boxes_T, reduction='none', beta=self.beta).sum(-1)
        if not len(priors):
            return boxes_S.sum(-1)  # mmdet's IoU losses of no boxes have no graph
        priors = priors.reshape(-1, 4)
        decoded = (self.bbox_coder.decode(priors, b.reshape(-1, 4)) for b in (boxes_S, boxes_T))
        return IOU_LOSSES[self.box_loss](*decoded).view(boxes_S.shape[:-1])

    def _priors(self, levels: list[Tensor], like: Tensor) -> Tensor:
        """(P, 4), the priors of the levels."""
        sizes = [level.shape[-2:] for level in levels]
        priors = torch.cat(
            self.prior_generator.grid_priors(sizes, dtype=like.dtype, device=like.device)
        )
        received = sum(level[0].numel() for level in levels) // 4
        if len(priors) != received:
            raise ValueError(
                f"prior_generator must be the head's own: it makes {len(priors)} priors, the maps "
                f'{describe(levels)} hold {received}.'
            )
        return priors
