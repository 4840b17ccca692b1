"""Some levels of a pyramid."""

from collections.abc import Sequence
from typing import Any

from mmrazor.models.architectures.connectors.base_connector import BaseConnector
from mmrazor.registry import MODELS
from torch import Tensor

from mmkd.geometry.multi_level_maps import Levels, as_levels, describe


@MODELS.register_module()
class ChosenLevels(BaseConnector):
    """The levels of a pyramid that the other model has, too.

    A pair puts it in front of the adapter by itself where the pyramids differ, as P2 to P6 and P3
    to P7: :mod:`mmkd.binding.shared_levels`.

    Args:
        levels (list[int]): which, in order.

    Raises:
        ValueError: for maps that lack one of them.

    Example:
        >>> import torch
        >>> maps = [torch.zeros(1, 4, size, size) for size in (8, 4, 2)]
        >>> [tuple(level.shape) for level in ChosenLevels([1, 2])(maps)]
        [(1, 4, 4, 4), (1, 4, 2, 2)]
    """

    def __init__(self, levels: Sequence[int], init_cfg: dict[str, Any] | None = None) -> None:
        super().__init__(init_cfg)
        self.levels = list(levels)

    def forward_train(self, feature: Levels) -> list[Tensor]:
        """Levels (B, C, H, W) -> those that are chosen."""
        maps = as_levels(feature, 'features')
        if not self.levels or not all(0 <= level < len(maps) for level in self.levels):
            raise ValueError(
                f'levels must be among those of the features, got {self.levels} for '
                f'{describe(maps)}. Leave it to the pair, which knows both models.'
            )
        return [maps[level] for level in self.levels]
