"""Imitation of the teacher's features at the cells near objects."""

import torch
from mmrazor.registry import MODELS
from torch import Tensor, nn

from mmkd.distributed.avg_factor import across_ranks
from mmkd.geometry.multi_level_maps import Levels, as_levels, describe, paired_levels, upcast
from mmkd.losses.statistic import Statistic


def masked_square_error(feature_S: Tensor, feature_T: Tensor, mask: Tensor) -> Tensor:
    """Sum of squared differences over all channels, times the weights of the cells.

    Args:
        feature_S: (B, C, H, W).
        feature_T: (B, C, H, W).
        mask: (B, 1, H, W), weights; what a cell of weight 0 holds does not matter.

    Example:
        >>> mask = torch.tensor([[[[1.0, 0.0]]]])
        >>> masked_square_error(torch.ones(1, 3, 1, 2), torch.zeros(1, 3, 1, 2), mask)
        tensor(3.)
    """
    error = (upcast(feature_S) - upcast(feature_T)).square().sum(1, keepdim=True)  # (B, 1, H, W)
    return torch.where(mask > 0, error * mask, error.new_zeros(())).sum()


@MODELS.register_module()
class FineGrainedImitation(nn.Module):
    r"""Pull the student's features to the teacher's where objects are.

    .. math::

        L = \frac{1}{2 N} \sum_{levels, cells, channels} mask \, (A(s) - t)^2,
        \quad N = \sum mask

    A, the adapter, is a connector on the student's side (:class:`mmkd.connectors.FeatureAdapter`);
    the mask comes from :class:`mmkd.connectors.ImitationMaskConnector`: cells near objects. Or it
    holds weights from 0 to 1: with the teacher's scores (``type='ScoreMaps'``) the loss needs
    neither ground truth, nor classes, nor equal heads.

    Source:
        Wang et al., CVPR 2019, "Distilling object detectors with fine-grained feature imitation"
        (arXiv 1906.03609), eq. 2 and 3; their weight is 0.01. With scores for weights, the feature
        loss of Ultralytics 8.4: its own form is ``normalizer='ultralytics'``, weight 6, the adapter
        two convolutions with a ReLU between them.

    Differs:
        With several levels, N counts the cells of all of them. No masked cell gives 0. In the form
        of Ultralytics each level is divided by its own C N on this process alone, so that one
        crowded image counts most, and the sum is multiplied by the images of the process.

    Units:
        Divided by twice the number of masked cells over all ranks: independent of batch, image
        size, object size and number of levels. It sums over channels, so it grows with them;
        ``normalizer='2NC'`` divides by their number, too. 'ultralytics' grows with the batch.

    Args:
        loss_weight (float): Defaults to 0.01.
        normalizer (str): '2N', '2NC' for a mean over channels, or 'ultralytics'. Defaults to '2N'.

    Raises:
        ValueError: for an unknown normalizer, and for features or masks that do not fit together.

    Example:
        >>> student, teacher = torch.full((1, 2, 1, 2), 3.0), torch.zeros(1, 2, 1, 2)
        >>> mask = torch.tensor([[[[1.0, 0.0]]]])
        >>> FineGrainedImitation(loss_weight=1.0)(student, teacher, mask)
        tensor(9.)
    """

    pairs_levels = ('preds_S', 'preds_T', 'mask')
    idle_without = 'coverage'
    statistics = {
        'coverage': Statistic(
            'share of cells in the imitation mask, or their mean weight',
            "Compare the mask connector's prior_generator with the sizes of the objects, or lower "
            'its iou_factor.',
        )
    }

    def __init__(self, loss_weight: float = 0.01, normalizer: str = '2N') -> None:
        super().__init__()
        if normalizer not in ('2N', '2NC', 'ultralytics'):
            raise ValueError(
                f"normalizer must be '2N', '2NC' or 'ultralytics', got {normalizer!r}."
            )
        self.loss_weight = loss_weight
        self.normalizer = normalizer
        self.logs: dict[str, Tensor] = {}

    def forward(self, preds_S: Levels, preds_T: Levels, mask: Levels) -> Tensor:
        """Compute the loss; ``logs`` gets 'coverage', the share of cells that are masked.

        Args:
            preds_S: a map or levels (B, C, H, W), adapted.
            preds_T: the teacher's, of the same shapes.
            mask: a mask or levels (B, 1, H, W) of zeros and ones, or of weights.
        """
        levels_S, levels_T = paired_levels(preds_S, preds_T, 'channels and strides')
        masks = [m.detach().to(levels_S[0].device) for m in as_levels(mask, 'mask')]
        if [m.shape for m in masks] != [(s.size(0), 1, *s.shape[2:]) for s in levels_S]:
            raise ValueError(
                'mask must hold one (B, 1, H, W) for each (B, C, H, W) of preds_S, got '
                f'{describe(masks)} for {describe(levels_S)}. Take the features at the levels '
                "of the mask connector's anchors, or choose its `levels`."
            )
        sums = torch.stack(
            [
                masked_square_error(s, t, m)
                for s, t, m in zip(levels_S, levels_T, masks, strict=True)
            ]
        )
        counts = torch.stack([m.to(sums).sum() for m in masks])
        self.logs = {'coverage': counts.sum() / sum(m.numel() for m in masks)}
        channels = sums.new_tensor([s.size(1) for s in levels_S])
        if self.normalizer == 'ultralytics':
            images = levels_S[0].size(0)
            return self.loss_weight * images * (sums / (channels * counts + 1e-9)).sum()
        total = (sums / channels if self.normalizer == '2NC' else sums).sum()
        return self.loss_weight * total / (2 * across_ranks(counts.sum(), total))
