"""A loss of one map on each level of a pyramid."""

from collections.abc import Mapping
from typing import Any

import torch
from mmrazor.models.losses import PKDLoss
from mmrazor.registry import MODELS
from torch import Tensor, nn

from mmkd.geometry.multi_level_maps import Levels, paired_levels, upcast


@MODELS.register_module()
class EachLevel(nn.Module):
    """The sum of a loss over the levels of student and teacher, by one mapping.

    For losses that take one map of each, such as MMRazor's ``ChannelWiseDivergence`` (CWD),
    ``PKDLoss`` and ``MGDLoss``. They get float32 maps that lie in memory as they expect, as many
    of the student as of the teacher, and of equal shapes. Where the pyramids differ, as P2 to P6
    and P3 to P7, a pair takes the levels of equal stride
    (:mod:`mmkd.binding.shared_levels`).

    Source:
        CWD: Shu et al., ICCV 2021 (arXiv 2011.13256); PKD: Cao et al., NeurIPS 2022 (arXiv
        2207.02039); MGD: Yang et al., ECCV 2022 (arXiv 2205.01529).

    Differs:
        PKDLoss given tuples drops the levels that one side has more; here they are an error. A
        level of a single cell (one image) has no pattern, and teaches nothing; there PKDLoss alone
        is NaN.

    Units:
        Those of the loss, summed over levels.

    Args:
        loss (dict): its config.
        loss_weight (float): Defaults to 1.0.

    Raises:
        ValueError: for levels that do not fit each other.

    Example:
        >>> loss = EachLevel(dict(type='PKDLoss'))
        >>> maps = [torch.eye(4).view(1, 1, 4, 4), torch.eye(2).view(1, 1, 2, 2)]
        >>> loss(maps, [3 * m + 1 for m in maps]) < 1e-6, loss(maps, [-m for m in maps]) > 3
        (tensor(True), tensor(True))
    """

    pairs_levels = ('preds_S', 'preds_T')
    statistics: dict[str, Any] = {}

    def __init__(self, loss: Mapping[str, Any], loss_weight: float = 1.0) -> None:
        super().__init__()
        self.each = MODELS.build(loss)
        self.loss_weight = loss_weight
        self.logs: dict[str, Tensor] = {}

    def forward(self, preds_S: Levels, preds_T: Levels) -> Tensor:
        """Compute the loss.

        Args:
            preds_S: a map or levels (B, C, H, W).
            preds_T: the teacher's, of the same shapes.
        """
        levels_S, levels_T = paired_levels(preds_S, preds_T, 'channels and strides')
        with torch.autocast(levels_S[0].device.type, enabled=False):
            terms = [
                self._term(upcast(s).contiguous(), upcast(t).contiguous())
                for s, t in zip(levels_S, levels_T, strict=True)
            ]
        return self.loss_weight * torch.stack(terms).sum()

    def _term(self, level_S: Tensor, level_T: Tensor) -> Tensor:
        if isinstance(self.each, PKDLoss) and level_S[:, 0].numel() < 2:
            return (level_S * 0).sum()  # of a single cell the deviation is NaN
        return self.each(level_S, level_T)
