"""The teacher's queries as targets of the student's, layer by layer."""

from collections.abc import Sequence

import torch
from mmdet.structures.bbox import bbox_overlaps, bbox_xyxy_to_cxcywh
from mmrazor.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional as F

from mmkd.distributed.avg_factor import across_ranks
from mmkd.geometry.multi_level_maps import describe, upcast
from mmkd.heads.predictions import Predictions
from mmkd.losses.functional.iou_losses import IOU_LOSSES
from mmkd.losses.functional.row_targets import least_cost
from mmkd.losses.statistic import Statistic
from mmkd.recorders.queries_recorder import QueryRun


@MODELS.register_module()
class MatchedQueries(nn.Module):
    r"""Teach each decoder layer of a DETR what the teacher's queries predict at that layer.

    .. math::

        L = \sum_{layers} \frac{1}{\sum w} \sum_{pairs} w \, \left( \sum_c BCE(z_S, p_T)
            + 5 \, |b_S - b_T|_1 + 2 \, (1 - GIoU) \right)

    The pairs are those of the least cost in all, by the same three numbers: of the teacher's
    ``top_k`` surest queries each has one of the student's. w is the teacher's score of the query.
    Boxes b are centre and size in parts of the image. What the other queries learn is left to the
    ground truth. Record the student with ``type='Queries'``, the teacher with
    ``type='Predictions', layers='all'``.

    Source:
        The logits of DETRDistill: Chang et al., ICCV 2023 (arXiv 2211.10156), with the
        weights of their code.

    Differs:
        Pairs are weighed by the teacher's score, as by KD-DETR (Wang et al., CVPR 2024, arXiv
        2211.08071): most of 100 queries see nothing. With ``weighted=False`` all count the same,
        as published. Decoders of other depths are compared from the last layer on, at equal parts
        of the depth.

    Units:
        Mean over what the teacher sees, over all ranks (weights at least 1), summed over layers.
        Independent of batch, image size and number of queries.

    Args:
        loss_weight (float): Defaults to 1.0.
        cls_weight (float): Defaults to 1.0.
        l1_weight (float): Defaults to 5.0.
        giou_weight (float): Defaults to 2.0.
        top_k (int): of the teacher's queries. Defaults to 100.
        weighted (bool): weigh pairs by the teacher's score. Defaults to True.

    Raises:
        ValueError: for ``top_k`` below 1, for other records, for other images or classes.

    Example:
        >>> MatchedQueries(top_k=0)
        Traceback (most recent call last):
        ...
        ValueError: top_k must be at least 1, got 0.
    """

    needs_equal = ('classes',)
    statistics = {
        'cls': Statistic('its classes'),
        'l1': Statistic('the places of its boxes'),
        'giou': Statistic('the overlaps of its boxes'),
    }

    def __init__(
        self,
        loss_weight: float = 1.0,
        cls_weight: float = 1.0,
        l1_weight: float = 5.0,
        giou_weight: float = 2.0,
        top_k: int = 100,
        weighted: bool = True,
    ) -> None:
        super().__init__()
        if top_k < 1:
            raise ValueError(f'top_k must be at least 1, got {top_k}.')
        self.loss_weight = loss_weight
        self.weights = {'cls': cls_weight, 'l1': l1_weight, 'giou': giou_weight}
        self.top_k = top_k
        self.weighted = weighted
        self.logs: dict[str, Tensor] = {}

    def forward(self, preds_S: QueryRun, preds_T: Sequence[Predictions]) -> Tensor:
        """Compute the loss; ``logs`` gets its parts 'cls', 'l1' and 'giou', weighted.

        Args:
            preds_S: the student's run.
            preds_T: the teacher's rows of each decoder layer.
        """
        _check(preds_S, preds_T)
        depth, of_teacher = len(preds_S.layers), len(preds_T)
        parts: dict[str, list[Tensor]] = {name: [] for name in self.weights}
        with torch.autocast(preds_S.sizes.device.type, enabled=False):
            for i, own in enumerate(preds_S.layers):
                # Of equal depths the same layer; the last always with the last.
                other = preds_T[-(-(i + 1) * of_teacher // depth) - 1].detach()
                for name, term in self._layer(own, other, preds_S.sizes).items():
                    parts[name].append(self.weights[name] * term)
        totals = {name: torch.stack(terms).sum() for name, terms in parts.items()}
        self.logs = {name: self.loss_weight * total.detach() for name, total in totals.items()}
        return self.loss_weight * torch.stack(list(totals.values())).sum()

    def _layer(self, own: Predictions, other: Predictions, sizes: Tensor) -> dict[str, Tensor]:
        logits = Predictions(upcast(own.log_prob), own.boxes).logits
        boxes = upcast(own.boxes)
        score = upcast(other.log_prob).exp()  # (B, Q, C)
        sums = {name: [(logits * 0).sum() + (boxes * 0).sum()] for name in self.weights}
        whole = logits.new_zeros(())
        for b, size in enumerate(upcast(sizes.to(boxes.device))):
            best = score[b].amax(-1)
            if other.valid is not None:
                best = best * other.valid[b]
            weight, taken = best.topk(min(self.top_k, len(best)))
            taught, target = score[b, taken], upcast(other.boxes[b, taken])
            with torch.no_grad():
                distances = _distances(logits[b], boxes[b], taught, target, size)
                cost = sum(self.weights[name] * d for name, d in distances.items())
                assert isinstance(cost, Tensor)
                row, column = least_cost(cost, None if own.valid is None else own.valid[b])
            weight = weight[column] if self.weighted else torch.ones_like(weight[column])
            found = _paired(logits[b, row], boxes[b, row], taught[column], target[column], size)
            for name, distance in found.items():
                sums[name].append((weight * distance).sum())
            whole = whole + weight.sum()
        divisor = across_ranks(whole, logits)
        return {name: torch.stack(terms).sum() / divisor for name, terms in sums.items()}


def _distances(
    logits: Tensor, boxes: Tensor, taught: Tensor, target: Tensor, size: Tensor
) -> dict[str, Tensor]:
    """Of each of the Q rows from each of the n targets, (Q, n)."""
    places, wanted = (bbox_xyxy_to_cxcywh(b) / size for b in (boxes, target))
    return {
        'cls': F.softplus(logits).sum(-1, keepdim=True) - logits @ taught.t(),
        'l1': torch.cdist(places, wanted, p=1),
        'giou': 1 - bbox_overlaps(boxes, target, mode='giou'),
    }


def _paired(
    logits: Tensor, boxes: Tensor, taught: Tensor, target: Tensor, size: Tensor
) -> dict[str, Tensor]:
    """Of each of the n rows from its target, (n,)."""
    places, wanted = (bbox_xyxy_to_cxcywh(b) / size for b in (boxes, target))
    bce = F.binary_cross_entropy_with_logits(logits, taught, reduction='none')
    return {
        'cls': bce.sum(-1),
        'l1': (places - wanted).abs().sum(-1),
        'giou': IOU_LOSSES['giou'](boxes, target),
    }


def _check(preds_S: object, preds_T: object) -> None:
    if not isinstance(preds_S, QueryRun):
        raise ValueError(
            f"preds_S must be recorded with `type='Queries'`, got {describe(preds_S)}."
        )
    layers = preds_T if isinstance(preds_T, list | tuple) else []
    if not layers or not all(isinstance(layer, Predictions) for layer in layers):
        raise ValueError(
            'preds_T must be the rows of the decoder layers, got '
            f"{describe(preds_T)}. Record them with `type='Predictions', layers='all'`."
        )
    s, t = preds_S.layers[-1].log_prob, layers[-1].log_prob
    if s.size(0) != t.size(0) or s.size(2) != t.size(2):
        raise ValueError(
            'student and teacher must see the same images and score the same classes, got '
            f'log_prob of {tuple(s.shape)} and {tuple(t.shape)} (images, rows, classes). Take a '
            'teacher of these classes.'
        )
