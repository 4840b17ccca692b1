"""Where the sides of boxes may lie, as distributions."""

from mmrazor.registry import MODELS
from torch import Tensor, nn

from mmkd.distributed.avg_factor import across_ranks
from mmkd.geometry.multi_level_maps import describe, upcast
from mmkd.heads.predictions import Predictions
from mmkd.losses.functional.side_terms import side_divergence
from mmkd.losses.statistic import Statistic


@MODELS.register_module()
class SideDistributions(nn.Module):
    r"""Teach how sure the teacher is of each side of a box, not the box alone.

    .. math::

        L = \frac{\tau^2}{\sum_i w_i} \sum_i w_i \frac{1}{4} \sum_{sides}
            KL(softmax(t_i / \tau) \,\|\, softmax(s_i / \tau)), \quad w_i = \max_c p_T(i)

    over the rows i whose score w is at least ``score_thr``. Record both sides with
    ``type='Distributions'``, and the teacher's scores with ``type='Predictions'``.

    As published: ``regions`` mapped to the inputs of the student's ``loss`` behind the connector
    ``LocalisationRegions``, ``rows_S`` to the student's ``type='Predictions'``, and
    ``normalizer='none'``. Then w is the student's score at the positives, and a quarter of the IoU
    in the valuable region; their weight of 0.25 is here 0.25 / (reg_max + 1).

    Source:
        LD: Zheng et al., CVPR 2022 (arXiv 2102.12252), by their code, for GFL's kin.

    Differs:
        By default the weight is the teacher's score in place of the student's at the positives and
        the IoU in the valuable region around them: a sure teacher scores both, and no ground
        truth is needed. It is divided by the weights over all ranks; their code does not divide,
        so that the term grows with the images per process. The divergence is a sum over the bins,
        not their mean. An image without objects has no region, where their code fails.

    Units:
        Mean over sides and over what the teacher sees, over all ranks (at least 1). Independent of
        batch and image size.

    Args:
        loss_weight (float): Defaults to 1.0.
        temperature (float): tau. Defaults to 10.0.
        score_thr (float): rows of a lower score teach nothing, without ``regions``. Defaults to
            0.05.
        normalizer (str): 'weights', their sum over all ranks, or 'none'. Defaults to 'weights'.

    Raises:
        ValueError: for numbers out of range, for other records, for other priors or bins.

    Example:
        >>> SideDistributions(temperature=0)
        Traceback (most recent call last):
        ...
        ValueError: temperature must be above 0 and score_thr from 0 to below 1, got 0 and 0.05.
    """

    needs_equal = ('priors', 'bins')
    idle_without = 'taught'
    statistics = {
        'taught': Statistic(
            'share of rows that the teacher is sure enough of',
            'Lower score_thr, or look at whether the teacher sees what it was trained on.',
        )
    }

    def __init__(
        self,
        loss_weight: float = 1.0,
        temperature: float = 10.0,
        score_thr: float = 0.05,
        normalizer: str = 'weights',
    ) -> None:
        super().__init__()
        if normalizer not in ('weights', 'none'):
            raise ValueError(f"normalizer must be 'weights' or 'none', but got {normalizer!r}.")
        if temperature <= 0 or not 0 <= score_thr < 1:
            raise ValueError(
                'temperature must be above 0 and score_thr from 0 to below 1, got '
                f'{temperature} and {score_thr}.'
            )
        self.loss_weight = loss_weight
        self.temperature = temperature
        self.score_thr = score_thr
        self.normalizer = normalizer
        self.logs: dict[str, Tensor] = {}

    def forward(
        self,
        preds_S: Tensor,
        preds_T: Tensor,
        rows_T: Predictions,
        rows_S: Predictions | None = None,
        regions: Tensor | None = None,
    ) -> Tensor:
        """Compute the loss; ``logs`` gets 'taught', the share of rows.

        Args:
            preds_S: (B, P, 4, n), the student's distributions.
            preds_T: the teacher's, of the same priors and bins.
            rows_T: what the teacher predicts, row by row.
            rows_S: what the student predicts, with ``regions``.
            regions: (B, P, 2), which rows are positive (0 or 1), and how valuable (0 to 1).
        """
        _check(preds_S, preds_T, rows_T)
        if regions is None:
            weight = upcast(rows_T.log_prob.detach()).exp().amax(-1)  # (B, P)
            weight = weight * (weight >= self.score_thr)
        else:
            weight = _published(rows_S, regions, preds_S)
        weight = weight if rows_T.valid is None else weight * rows_T.valid
        kept = weight > 0
        divergence = side_divergence(preds_S[kept], preds_T[kept], self.temperature)
        total = (weight[kept] * divergence).sum()
        self.logs = {'taught': kept.to(total).mean()}
        if self.normalizer == 'none':
            return self.loss_weight * total
        return self.loss_weight * total / across_ranks(weight.sum(), total)


def _published(rows_S: Predictions | None, regions: Tensor, bins: Tensor) -> Tensor:
    """(B, P), the weights of their code."""
    if not isinstance(rows_S, Predictions) or regions.shape != (*bins.shape[:2], 2):
        raise ValueError(
            "regions (images, rows, 2) need the student's rows, as many, in rows_S, but got "
            f'{tuple(regions.shape)} for {tuple(bins.shape)}, and {describe(rows_S)}. Map rows_S '
            "to the student's `type='Predictions'`, and regions behind LocalisationRegions."
        )
    positive, valuable = upcast(regions).unbind(-1)
    return positive * upcast(rows_S.log_prob.detach()).exp().amax(-1) + valuable / 4


def _check(preds_S: Tensor, preds_T: Tensor, rows_T: Predictions) -> None:
    for name, bins in (('preds_S', preds_S), ('preds_T', preds_T)):
        if not isinstance(bins, Tensor) or bins.dim() != 4 or bins.size(2) != 4:
            raise ValueError(
                f'{name} must be distributions (B, P, 4, n), got {describe(bins)}. Record it with '
                "`type='Distributions'`."
            )
    if preds_S.shape != preds_T.shape:
        raise ValueError(
            'student and teacher must have the same priors and as many bins for each side (reg_max '
            f'of the head), got {tuple(preds_S.shape)} and {tuple(preds_T.shape)} (images, rows, '
            "4, bins). Give one of the heads the other's."
        )
    if not isinstance(rows_T, Predictions) or rows_T.boxes.shape[:2] != preds_T.shape[:2]:
        raise ValueError(
            "rows_T must be the teacher's rows, as many as it has distributions, got "
            f'{describe(getattr(rows_T, "boxes", rows_T))} for {tuple(preds_T.shape)}. Record it '
            "with `type='Predictions'`."
        )
