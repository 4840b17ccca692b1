"""Class maps as rows of priors."""

from typing import Any

from mmrazor.models.architectures.connectors.base_connector import BaseConnector
from mmrazor.registry import MODELS
from torch import Tensor

from mmkd.geometry.multi_level_maps import Levels, as_levels, describe, flatten_levels


@MODELS.register_module()
class FlattenCls(BaseConnector):
    """Class maps as rows of priors, for losses over the last axis such as ``KLDivergence``.

    Dense heads stride the classes inside the channels, (B, A * C, H, W): a softmax over the
    channels would mix anchors.

    Args:
        cls_out_channels (int): channels per prior: C + 1 for a softmax head (background last),
            C for a sigmoid head. In a pair it may be left out: the head's.

    Example:
        >>> FlattenCls(4)([torch.zeros(2, 12, 3, 5), torch.zeros(2, 8, 1, 2)]).shape
        torch.Size([98, 4])
    """

    needs_equal = ('classes', 'priors')
    from_models = {'cls_out_channels': 'cls_channels'}

    def __init__(self, cls_out_channels: int, init_cfg: dict[str, Any] | None = None) -> None:
        super().__init__(init_cfg)
        self.cls_out_channels = cls_out_channels

    def forward_train(self, feature: Levels) -> Tensor:
        """Levels (B, A * C, H, W) -> (B * P, C)."""
        levels = as_levels(feature, 'class maps')
        if any(level.size(1) % self.cls_out_channels for level in levels):
            raise ValueError(
                f'class maps need a multiple of cls_out_channels={self.cls_out_channels} channels, '
                f'got {describe(levels)}. It is num_classes + 1 for a softmax head.'
            )
        return flatten_levels(levels, self.cls_out_channels).flatten(0, 1)
