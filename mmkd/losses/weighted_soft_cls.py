"""Soft classification targets on positives and mined hard negatives."""

from collections.abc import Sequence
from typing import Any

import torch
from mmrazor.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional as F

from mmkd.distributed.avg_factor import across_ranks
from mmkd.geometry.multi_level_maps import (
    Levels,
    cat_targets,
    describe,
    flatten_levels,
    paired_levels,
)
from mmkd.losses.statistic import Statistic


def mine(hardness: Tensor, positive: Tensor, eligible: Tensor, neg_pos_ratio: float) -> Tensor:
    """Positives and, per image, the ``neg_pos_ratio`` * N_pos hardest eligible priors.

    An image without positives mines nothing, as in mmdet's SSDHead.

    Args:
        hardness: (B, P).
        positive: (B, P), bool.
        eligible: (B, P), bool: the priors that may be mined.
        neg_pos_ratio: negatives per positive, rounded down.

    Returns:
        Tensor: (B, P), bool.

    Example:
        >>> positive = torch.tensor([[True, False, False, False]])
        >>> mine(torch.tensor([[9.0, 1.0, 3.0, 2.0]]), positive, ~positive, 2)
        tensor([[ True, False,  True,  True]])
    """
    quota = (positive.sum(1, keepdim=True) * neg_pos_ratio).floor()  # (B, 1)
    # As many as the fullest image needs; on a GPU, rather all than to wait for the number.
    most = min(int(quota.max()), hardness.size(1)) if hardness.is_cpu else hardness.size(1)
    order = hardness.masked_fill(~eligible, -torch.inf).topk(most, dim=1).indices
    within = torch.arange(most, device=order.device) < quota  # the hardest of each image
    return positive | (torch.zeros_like(positive).scatter_(1, order, within) & eligible)


def weighted_soft_cls(
    logits_S: Tensor,
    logits_T: Tensor,
    channel_weight: Tensor,
    avg_factor: Tensor | float,
    temperature: float = 1.0,
    log_eps: float | None = None,
) -> Tensor:
    """Class-weighted KL(T || S) of N rows, times temperature squared.

    Args:
        logits_S: (N, C + 1).
        logits_T: (N, C + 1).
        channel_weight: (C + 1,), w_c.
        avg_factor: what the sum is divided by.
        temperature: of both softmaxes.
        log_eps: take log(p + log_eps) instead of log_softmax.
    """
    log_S = F.log_softmax(logits_S / temperature, dim=-1)
    log_T = F.log_softmax(logits_T / temperature, dim=-1)
    prob_T = log_T.exp()
    if log_eps is not None:
        log_S, log_T = (log_S.exp() + log_eps).log(), (prob_T + log_eps).log()
    return temperature**2 * (channel_weight * prob_T * (log_T - log_S)).sum() / avg_factor


@MODELS.register_module()
class WeightedSoftCls(nn.Module):
    r"""Teach a softmax head the teacher's class distribution where it matters.

    .. math::

        L = \frac{\tau^2}{N_{pos}} \sum_{M} \sum_c w_c P_T(c) (\log P_T(c) - \log P_S(c)),
        \quad P = softmax(\cdot / \tau)

    M: the positives and per image the 3 N_pos hardest negatives by the student's own cross-entropy
    (at temperature 1), the same set that mmdet's SSDHead trains on. The background is the last
    channel.

    Source:
        Chen et al., NeurIPS 2017, "Learning efficient object detection models with knowledge
        distillation", eq. 2 and 3, and its SSD implementations.

    Differs:
        KL in place of cross-entropy: the same gradient, and 0 where student and teacher agree.
        Priors of label weight 0 (ignored, or outside the image) are never in M; mmdet, too, gives
        them no loss. log_softmax; the references' log(p + eps) is ``log_eps=eps``.

    Units:
        Divided by the head's own N_pos over all ranks (mmdet counts an image without positives
        as 1), as SSD's own loss is: independent of batch, image size, levels and, nearly, of C.
        With unequal weights the sum can be slightly negative; with equal ones it cannot.

    Args:
        temperature (float): Defaults to 1.0.
        bg_weight (float): w_c of the background channel. Defaults to 1.5.
        fg_weight (float): w_c of the others. Defaults to 1.0.
        neg_pos_ratio (float): negatives mined per positive; keep it equal to the head's own.
            Defaults to 3.
        loss_weight (float): Defaults to 0.3.
        log_eps (float, optional): the reference form's eps. Defaults to None.

    Raises:
        ValueError: for a temperature that is not positive, and for maps or targets that do not
            fit together.

    Example:
        >>> student, teacher = torch.zeros(1, 2, 1, 1), torch.tensor([[[[2.0]], [[0.0]]]])
        >>> labels, weights = [torch.zeros(1, 1).long()], [torch.ones(1, 1)]
        >>> targets = (labels, weights, [torch.zeros(1, 1, 4)], [torch.ones(1, 1, 4)], 1)
        >>> WeightedSoftCls(bg_weight=1.0, loss_weight=1.0)(student, teacher, targets)
        tensor(0.3278)
    """

    needs_equal = ('classes', 'priors')
    teacher_reads = {'preds_T': 'softmax'}
    softmax_scores = ('preds_S', 'preds_T')
    idle_without = 'mined'
    statistics = {
        'mined': Statistic(
            'priors per image on which soft classes are taught', 'No prior is positive.'
        )
    }

    def __init__(
        self,
        temperature: float = 1.0,
        bg_weight: float = 1.5,
        fg_weight: float = 1.0,
        neg_pos_ratio: float = 3,
        loss_weight: float = 0.3,
        log_eps: float | None = None,
    ) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f'temperature must be positive, got {temperature}.')
        self.temperature = temperature
        self.bg_weight = bg_weight
        self.fg_weight = fg_weight
        self.neg_pos_ratio = neg_pos_ratio
        self.loss_weight = loss_weight
        self.log_eps = log_eps
        self.logs: dict[str, Tensor] = {}

    def forward(self, preds_S: Levels, preds_T: Levels, targets: Sequence[Any]) -> Tensor:
        """Compute the loss; ``logs`` gets 'mined', the size of M per image.

        Args:
            preds_S: levels (B, A * (C + 1), H, W), class logits.
            preds_T: the teacher's, of the same shapes.
            targets: what the student head's ``get_targets`` returned.
        """
        levels_S, levels_T = paired_levels(preds_S, preds_T, 'classes and priors')
        labels, label_weights, _, _, num_pos = cat_targets(targets, levels_S)
        num_scores = sum(level[0].numel() for level in levels_S)
        width = num_scores // labels.size(1)  # C + 1
        if (
            width < 2
            or any(level.size(1) % width for level in levels_S)
            or (num_scores != width * labels.size(1))
        ):
            raise ValueError(
                'preds_S must hold C + 1 >= 2 channels for each prior in targets, got '
                f'{describe(levels_S)} for {labels.size(1)} priors. Map it to the class maps '
                "(`data_idx=0` of the head's output) of a softmax head."
            )
        logits_S, logits_T = flatten_levels(levels_S, width), flatten_levels(levels_T, width)

        background = width - 1
        positive = (labels >= 0) & (labels < background)
        with torch.no_grad():
            log_prob = F.log_softmax(logits_S, dim=-1)
            own = labels.clamp(0, background).unsqueeze(-1)
            ce = -log_prob.gather(-1, own).squeeze(-1) * label_weights  # (B, P)
            counted = label_weights > 0
            mined = mine(ce, positive, counted & (labels == background), self.neg_pos_ratio)
            mined &= counted
            chosen = mined.flatten().nonzero().squeeze(-1)  # once: a GPU is waited for

        weight = logits_S.new_full((width,), self.fg_weight)
        weight[-1] = self.bg_weight
        loss = weighted_soft_cls(
            logits_S.flatten(0, 1)[chosen],  # (|M|, C + 1)
            logits_T.flatten(0, 1)[chosen].to(logits_S.dtype),
            weight,
            across_ranks(num_pos, logits_S),
            self.temperature,
            self.log_eps,
        )
        self.logs = {'mined': logits_S.new_full((), len(chosen) / len(mined))}
        return self.loss_weight * loss
