"""Regression towards the ground truth until the student is better than its teacher."""

from collections.abc import Sequence
from typing import Any

import torch
from mmrazor.registry import MODELS
from torch import Tensor, nn

from mmkd.distributed.avg_factor import across_ranks
from mmkd.geometry.multi_level_maps import Levels, cat_targets, flatten_levels, paired_levels
from mmkd.losses.statistic import Statistic


def teacher_bounded_reg(
    boxes_S: Tensor,
    boxes_T: Tensor,
    targets: Tensor,
    positive: Tensor,
    avg_factor: Tensor | float,
    margin: float = 0.0,
    gate: str = 'prior',
) -> tuple[Tensor, Tensor]:
    """Squared error of the priors at which the student does not yet beat the teacher.

    Args:
        boxes_S: (B, P, 4), encoded.
        boxes_T: (B, P, 4), encoded.
        targets: (B, P, 4), encoded.
        positive: (B, P), bool.
        avg_factor: what the sum is divided by.
        margin: m, in squared encoded units.
        gate: 'prior' decides for each prior, 'batch' once for the sums over all positives.

    Returns:
        tuple: the loss and the share of positive priors that are active.
    """
    zero = boxes_S.new_zeros(())
    error_S = torch.where(positive, (boxes_S - targets).square().sum(-1), zero)  # (B, P)
    error_T = torch.where(positive, (boxes_T - targets).square().sum(-1), zero)
    if gate == 'batch':
        active = positive & (error_S.detach().sum() + margin > error_T.sum())
    else:
        active = positive & (error_S.detach() + margin > error_T)
    loss = torch.where(active, error_S, zero).sum() / avg_factor
    return loss, active.sum() / positive.sum().clamp(min=1)


@MODELS.register_module()
class TeacherBoundedReg(nn.Module):
    r"""Pull the student's boxes to the ground truth while the teacher's are better.

    .. math::

        L = \frac{1}{N_{pos}} \sum_{positive}
            1[\|s - g\|^2 + m > \|t - g\|^2] \, \|s - g\|^2

    The norm sums over the 4 encoded coordinates; the indicator carries no gradient. A prior is
    positive where ``get_targets`` gave its box a weight, which it does exactly where the label is
    a class. Where priors or box coder of the two heads differ, put :class:`ReencodeBoxes` on the
    teacher's maps.

    Source:
        Chen et al., NeurIPS 2017, "Learning efficient object detection models with knowledge
        distillation", eq. 4; their weight is 0.5.

    Differs:
        The gate is decided per prior, as in the equation; the published SSD implementations
        decide once per batch, which ``gate='batch'`` reproduces.

    Units:
        Divided by the head's own N_pos (mmdet counts an image without positives as 1) over all
        ranks, so a mean over positive priors: independent of batch, image size and number of
        levels. In squared *encoded* units: variances of (0.1, 0.2) enlarge it 25 to 100 times.

    Args:
        margin (float): m, by how much the student must beat the teacher. Defaults to 0.0.
        loss_weight (float): Defaults to 0.5.
        gate (str): 'prior' or 'batch' (reference form). Defaults to 'prior'.

    Raises:
        ValueError: for an unknown gate, and for maps or targets that do not fit together.

    Example:
        >>> loss = TeacherBoundedReg(loss_weight=1.0)
        >>> student, teacher = torch.full((1, 4, 1, 1), 3.0), torch.full((1, 4, 1, 1), 1.0)
        >>> labels, weights = [torch.zeros(1, 1).long()], [torch.ones(1, 1)]
        >>> boxes, box_weights = [torch.zeros(1, 1, 4)], [torch.ones(1, 1, 4)]
        >>> targets = (labels, weights, boxes, box_weights, 1)
        >>> loss(student, teacher, targets), loss(teacher, student, targets)
        (tensor(36.), tensor(0.))
    """

    needs_equal = ('priors', 'coder')
    teacher_reads = {'preds_T': 'near_boxes'}
    idle_without = 'active'
    statistics = {
        'active': Statistic(
            'share of positive priors at which the teacher is better',
            'The teacher is better nowhere: look at its mAP above, and at margin.',
        )
    }

    def __init__(self, margin: float = 0.0, loss_weight: float = 0.5, gate: str = 'prior') -> None:
        super().__init__()
        if gate not in ('prior', 'batch'):
            raise ValueError(f"gate must be 'prior' or 'batch', got {gate!r}.")
        self.margin = margin
        self.loss_weight = loss_weight
        self.gate = gate
        self.logs: dict[str, Tensor] = {}

    def forward(self, preds_S: Levels, preds_T: Levels, targets: Sequence[Any]) -> Tensor:
        """Compute the loss; ``logs`` gets 'active', the share of active positive priors.

        Args:
            preds_S: levels (B, A * 4, H, W), encoded boxes.
            preds_T: the teacher's, of the same shapes.
            targets: what the student head's ``get_targets`` returned.
        """
        levels_S, levels_T = paired_levels(preds_S, preds_T, 'priors')
        assigned = cat_targets(targets, levels_S)
        boxes_S, boxes_T = flatten_levels(levels_S, 4), flatten_levels(levels_T, 4)
        if boxes_S.shape != assigned.bbox_targets.shape:
            raise ValueError(
                'preds_S must hold 4 channels for each prior in targets, got '
                f'{tuple(boxes_S.shape)} boxes for {tuple(assigned.bbox_targets.shape)} targets. '
                "Map it to the box maps (`data_idx=1` of the head's output)."
            )
        loss, active = teacher_bounded_reg(
            boxes_S,
            boxes_T.to(boxes_S.dtype),
            assigned.bbox_targets.to(boxes_S.dtype),
            assigned.bbox_weights.amax(-1) > 0,
            across_ranks(assigned.num_pos, boxes_S),
            self.margin,
            self.gate,
        )
        self.logs = {'active': active}
        return self.loss_weight * loss
