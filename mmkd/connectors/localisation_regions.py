"""From ground truth to the priors whose boxes are worth a distribution."""

from collections.abc import Sequence
from typing import Any

import torch
from mmdet.structures.bbox import bbox_overlaps, get_box_tensor
from mmrazor.models.architectures.connectors.base_connector import BaseConnector
from mmrazor.registry import MODELS
from torch import Tensor

from mmkd.datasets.data_samples import ground_truth
from mmkd.geometry.multi_level_maps import as_levels, describe
from mmkd.heads.level_anchors import build_task_util


@MODELS.register_module()
class LocalisationRegions(BaseConnector):
    """The positives and the valuable region around them, from the inputs of a head's ``loss``.

    Of each object the ``topk`` anchors of each level whose centres are nearest to its own are
    candidates; t is the mean and the deviation of their IoU together. Positive is a candidate
    from t on with its centre in the object (ATSS). Valuable is each anchor whose DIoU is at least
    ``alpha`` t and below t; it counts by its IoU.

    The record is ``(x, batch_data_samples)``, by ``type='MethodInputsCopy'``. For the argument
    ``regions`` of :class:`mmkd.losses.SideDistributions`.

    Source:
        LD: Zheng et al., CVPR 2022 (arXiv 2102.12252), by their code.

    Args:
        prior_generator (dict): config (or instance) of the model's anchor generator. In a pair it
            may be left out: the head's own.
        topk (int): Defaults to 9.
        alpha (float): Defaults to 0.25.

    Raises:
        ValueError: when called: another record, or other levels than the generator's.
    """

    from_models = {'prior_generator': 'priors'}

    def __init__(
        self,
        prior_generator: Any,
        topk: int = 9,
        alpha: float = 0.25,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if topk < 1 or not 0 <= alpha < 1:
            raise ValueError(
                f'topk must be at least 1 and alpha from 0 to below 1, but got {topk} and {alpha}.'
            )
        self.priors = build_task_util(prior_generator)
        if not hasattr(self.priors, 'base_anchors'):
            raise ValueError(
                'prior_generator must make anchors, which have a width and a height, but got '
                f'{type(self.priors).__name__}. Leave regions of the loss out for such a head.'
            )
        self.topk = topk
        self.alpha = alpha

    @torch.no_grad()
    def forward_train(self, feature: Any) -> Tensor:
        """The record (x, batch_data_samples) -> (B, P, 2): positive (0 or 1), valuable (IoU)."""
        if not isinstance(feature, list | tuple) or len(feature) < 2:
            raise ValueError(
                "the record must be the inputs (x, batch_data_samples) of the head's `loss`, but "
                f"got {describe(feature)}. Record it with `type='MethodInputsCopy'`."
            )
        maps = as_levels(feature[0], 'x')
        if len(maps) != self.priors.num_levels:
            raise ValueError(
                f'x must have the {self.priors.num_levels} levels of prior_generator, but got '
                f'{describe(maps)}. Record the inputs of the head that owns the anchors.'
            )
        sizes = [level.shape[-2:] for level in maps]
        levels = [get_box_tensor(a) for a in self.priors.grid_priors(sizes, device=maps[0].device)]
        boxes, image_ids = ground_truth(feature[1])
        boxes, image_ids = boxes.to(levels[0]), image_ids.to(levels[0].device)
        return torch.stack(
            [
                localisation_regions(levels, boxes[image_ids == image], self.topk, self.alpha)
                for image in range(maps[0].size(0))
            ]
        )


def localisation_regions(
    levels: Sequence[Tensor], boxes: Tensor, topk: int = 9, alpha: float = 0.25
) -> Tensor:
    """Of each anchor whether it is positive, and by how much it is valuable.

    Args:
        levels: of each level its anchors (n, 4).
        boxes: (G, 4), of the objects of one image.
        topk: candidates of a level for each object.
        alpha: the least DIoU of a valuable anchor, by the threshold of an object.

    Returns:
        Tensor: (P, 2), P of all levels.

    Example:
        >>> anchors = torch.tensor([[0.0, 0, 8, 8], [4, 0, 12, 8], [40, 0, 48, 8]])
        >>> localisation_regions([anchors], anchors[:1])
        tensor([[1.0000, 0.0000],
                [0.0000, 0.3333],
                [0.0000, 0.0000]])
    """
    anchors = torch.cat(list(levels))
    if not len(boxes):
        return anchors.new_zeros(len(anchors), 2)
    centres, middles = ((b[:, :2] + b[:, 2:]) / 2 for b in (anchors, boxes))
    apart = (centres[:, None] - middles).square().sum(-1)  # (P, G)
    candidates, first = [], 0
    for level in levels:
        near = apart[first : first + len(level)]
        candidates.append(near.topk(min(topk, len(near)), dim=0, largest=False).indices + first)
        first += len(level)
    chosen = torch.cat(candidates)  # (K, G)
    iou = bbox_overlaps(anchors, boxes)
    seen = iou.gather(0, chosen)
    threshold = seen.mean(0) + (seen.std(0) if len(seen) > 1 else 0)
    low = torch.minimum(anchors[:, None, :2], boxes[:, :2])
    high = torch.maximum(anchors[:, None, 2:], boxes[:, 2:])
    diou = iou - apart / (high - low).square().sum(-1).clamp(min=1e-6)
    inside = ((centres[:, None] > boxes[:, :2]) & (centres[:, None] < boxes[:, 2:])).all(-1)
    is_candidate = torch.zeros_like(inside).scatter(0, chosen, True)
    positive = is_candidate & inside & (iou >= threshold)
    valuable = (diou >= alpha * threshold) & (diou < threshold)
    return torch.stack([positive.any(1).to(iou), (iou * valuable).amax(1)], dim=1)
