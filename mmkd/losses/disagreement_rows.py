"""Classes and boxes where student and teacher disagree."""

import torch
from mmrazor.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional as F

from mmkd.distributed.avg_factor import across_ranks
from mmkd.geometry.multi_level_maps import describe, upcast
from mmkd.heads.predictions import Predictions
from mmkd.losses.functional.row_targets import same_rows, targets_by_row
from mmkd.losses.functional.row_terms import weighted_giou
from mmkd.losses.statistic import Statistic


@MODELS.register_module()
class DisagreementRows(nn.Module):
    r"""Weigh each row by how far the student's scores are from the teacher's.

    .. math::

        L = \frac{1}{N} \sum_i \left( \sum_c |p_{T,ic} - p_{S,ic}| \, BCE(z_{S,ic}, p_{T,ic})
            + w_{box} \max_c |p_{T,ic} - p_{S,ic}| \, (1 - GIoU(s_i, t_i)) \right)

    over all rows i in the image, of heads with equal priors; no gradient flows through the weight
    of the boxes. N is the sum of the teacher's highest scores, or the positives of the student's
    assigner where ``num_pos`` is mapped. Record both sides with ``type='Predictions'``.

    Source:
        BCKD: Yang et al., ICCV 2023 (arXiv 2308.14286), by their code; its weights are 1 and 4.

    Differs:
        Their code leaves out a level without positives, and so all of an image without objects.
        A score holds what the head multiplies it by (centerness, objectness). Without ``num_pos``
        no ground truth is needed.

    Units:
        Per object that the teacher sees, over all ranks (at least 1). Independent of batch and
        image size.

    Args:
        loss_weight (float): Defaults to 1.0.
        box_weight (float): of the boxes beside the classes. Defaults to 4.0.

    Raises:
        ValueError: for records that are no Predictions, and for rows that do not belong together.

    Example:
        >>> box, prior = torch.tensor([[[0.0, 0.0, 8.0, 8.0]]]), torch.ones(1, 4)
        >>> sure, unsure = (torch.full((1, 1, 1), p).log() for p in (0.999, 0.5))
        >>> student, teacher = Predictions(unsure, box, prior), Predictions(sure, box, prior)
        >>> DisagreementRows()(student, teacher), DisagreementRows()(teacher, teacher)
        (tensor(0.3459), tensor(0.))
    """

    needs_equal = ('classes', 'priors')
    statistics = {
        'cls': Statistic('its classes'),
        'box': Statistic('its boxes'),
        'gap': Statistic("mean of the rows' largest difference of scores"),
    }

    def __init__(self, loss_weight: float = 1.0, box_weight: float = 4.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight
        self.box_weight = box_weight
        self.logs: dict[str, Tensor] = {}

    def forward(
        self,
        preds_S: Predictions,
        preds_T: Predictions,
        num_pos: float | Tensor | None = None,
    ) -> Tensor:
        """Compute the loss; ``logs`` gets its parts 'cls' and 'box', weighted, and 'gap'.

        Args:
            preds_S: the student's rows.
            preds_T: the teacher's, of the same priors.
            num_pos: of this rank: the last output of the head's ``get_targets``, for example.
        """
        _check(preds_S, preds_T)
        preds_T = preds_T.detach()
        with torch.autocast(preds_S.boxes.device.type, enabled=False):
            logits = Predictions(upcast(preds_S.log_prob), preds_S.boxes).logits
            found = targets_by_row(preds_S, preds_T)
            counts = torch.ones_like(logits[..., 0])
            for valid in (preds_S.valid, preds_T.valid):
                counts = counts if valid is None else counts * valid
            gap = (found.classes - logits.sigmoid()).abs() * counts[..., None]
            bce = F.binary_cross_entropy_with_logits(logits, found.classes, reduction='none')
            largest = gap.detach().amax(-1)
            whole = across_ranks(found.weights.sum() if num_pos is None else num_pos, logits)
            cls = (gap * bce).sum() / whole
            away = weighted_giou(upcast(preds_S.boxes), found.boxes, largest)
            box = self.box_weight * away / whole
        self.logs = {
            'cls': self.loss_weight * cls.detach(),
            'box': self.loss_weight * box.detach(),
            'gap': largest.sum() / counts.sum().clamp(min=1),
        }
        return self.loss_weight * (cls + box)


def _check(preds_S: Predictions, preds_T: Predictions) -> None:
    for name, rows in (('preds_S', preds_S), ('preds_T', preds_T)):
        if not isinstance(rows, Predictions):
            raise ValueError(
                f'{name} must be Predictions, got {describe(rows)}. Record it with '
                "`type='Predictions'`."
            )
    shapes = tuple(preds_S.log_prob.shape), tuple(preds_T.log_prob.shape)
    known = preds_S.priors is not None and preds_T.priors is not None
    if shapes[0] != shapes[1] or not (known and same_rows(preds_S, preds_T)):
        raise ValueError(
            'student and teacher must have the same classes and priors, row by row, got log_prob '
            f'of {shapes[0]} and {shapes[1]} (images, rows, classes), of the same priors: '
            f'{known and same_rows(preds_S, preds_T)}. Take PredictionRows, which pairs rows by '
            'overlap.'
        )
