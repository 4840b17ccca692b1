"""Channel and spatial alignment of features."""

import math
from collections.abc import Sequence
from typing import Any

from mmcv.cnn import ConvModule
from mmrazor.models.architectures.connectors.base_connector import BaseConnector
from mmrazor.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional as F

from mmkd.geometry.multi_level_maps import Levels, as_levels, describe


@MODELS.register_module()
class FeatureAdapter(BaseConnector):
    """The student's features in the teacher's channels and, where strides differ, size.

    One convolution per level, trained with the student. Where ``scale`` is not 1, the features
    are resized first: averaged over areas to shrink, bilinear to grow, to ceil(size * scale).

    In a pair the channels may be left out: they are taken from the two models.

    Args:
        in_channels (int | list[int]): of the student, per level if a list.
        out_channels (int | list[int]): of the teacher.
        kernel_size (int): odd. Wang et al. use 3. Defaults to 1.
        scale (float | list[float]): the student's stride over the teacher's. Defaults to 1.0.
        norm_cfg (dict, optional): of :class:`mmcv.cnn.ConvModule`. Defaults to None.
        act_cfg (dict, optional): of :class:`mmcv.cnn.ConvModule`. Defaults to None.
        keep_equal (bool): leave a level whose channels are the teacher's already without a
            convolution, as PKD is published. Defaults to False.

    Raises:
        ValueError: for lists of unequal length, and for features that do not fit them.

    Example:
        >>> adapter = FeatureAdapter([8, 16], 32, scale=2.0)
        >>> [tuple(m.shape) for m in adapter([torch.zeros(1, 8, 4, 6), torch.zeros(1, 16, 2, 3)])]
        [(1, 32, 8, 12), (1, 32, 4, 6)]
    """

    from_models = {'in_channels': 'channels', 'out_channels': 'counterpart_channels'}

    def __init__(
        self,
        in_channels: int | Sequence[int],
        out_channels: int | Sequence[int],
        kernel_size: int = 1,
        scale: float | Sequence[float] = 1.0,
        norm_cfg: dict[str, Any] | None = None,
        act_cfg: dict[str, Any] | None = None,
        keep_equal: bool = False,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        given = (in_channels, out_channels, scale)
        lengths = {len(item) for item in given if isinstance(item, list | tuple)}
        if len(lengths) > 1 or kernel_size % 2 == 0:
            raise ValueError(
                'in_channels, out_channels and scale need one entry per level, and kernel_size '
                f'must be odd, got {given} and {kernel_size}.'
            )
        self.single = not lengths  # one map in, one map out
        num_levels = max(lengths, default=1)
        ins, outs, self.scales = (
            list(item) if isinstance(item, list | tuple) else [item] * num_levels for item in given
        )
        self.in_channels = list(ins)
        self.convs = nn.ModuleList(
            nn.Identity()
            if keep_equal and i == o
            else ConvModule(
                i, o, kernel_size, padding=kernel_size // 2, norm_cfg=norm_cfg, act_cfg=act_cfg
            )
            for i, o in zip(ins, outs, strict=True)
        )

    def forward_train(self, feature: Levels) -> Tensor | list[Tensor]:
        """A map or levels (B, C_S, H, W) -> the same structure of (B, C_T, H', W')."""
        levels = as_levels(feature, 'features')
        if [level.size(1) for level in levels] != self.in_channels:
            raise ValueError(
                f'features must have {self.in_channels} channels (in_channels), got '
                f'{describe(levels)}. Correct in_channels, or `data_idx` of the mapping.'
            )
        adapted = [
            conv(_resize(level, scale))
            for level, conv, scale in zip(levels, self.convs, self.scales, strict=True)
        ]
        return adapted[0] if isinstance(feature, Tensor) else adapted


def _resize(feature: Tensor, scale: float) -> Tensor:
    if scale == 1:
        return feature
    height, width = feature.shape[-2:]
    size = (math.ceil(height * scale - 1e-6), math.ceil(width * scale - 1e-6))
    if scale < 1:
        return F.adaptive_avg_pool2d(feature, size)
    return F.interpolate(feature, size, mode='bilinear', align_corners=False)
