"""YOLOv3's maps taken apart."""

from typing import Any

from mmrazor.models.architectures.connectors.base_connector import BaseConnector
from mmrazor.registry import MODELS
from torch import Tensor

from mmkd.geometry.multi_level_maps import as_levels, describe


@MODELS.register_module()
class SplitPredMaps(BaseConnector):
    """mmdet's YOLOv3 maps as (cls_scores, bbox_preds, objectnesses).

    Args:
        num_classes (int): C. In a pair it may be left out: the head's.

    Example:
        >>> maps = [torch.zeros(2, 3 * (5 + 4), 6, 5)]
        >>> [levels[0].shape[1] for levels in SplitPredMaps(4)(maps)]
        [12, 12, 3]
    """

    from_models = {'num_classes': 'classes'}

    def __init__(self, num_classes: int, init_cfg: dict[str, Any] | None = None) -> None:
        super().__init__(init_cfg)
        self.num_classes = num_classes

    def forward_train(self, feature: Any) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Levels (B, A * (4 + 1 + C), H, W), or the head's 1-tuple of them."""
        if (
            isinstance(feature, tuple)
            and len(feature) == 1
            and isinstance(feature[0], list | tuple)
        ):
            feature = feature[0]
        levels = as_levels(feature, 'prediction maps')
        if any(level.size(1) % (5 + self.num_classes) for level in levels):
            raise ValueError(
                f'prediction maps need a multiple of 5 + num_classes = {5 + self.num_classes} '
                f"channels, got {describe(levels)}. Is num_classes the model's?"
            )
        # (B, A * (5 + C), H, W) -> (B, A, 5 + C, H, W)
        views = [m.unflatten(1, (-1, 5 + self.num_classes)) for m in levels]
        return (
            [view[:, :, 5:].flatten(1, 2) for view in views],
            [view[:, :, :4].flatten(1, 2) for view in views],
            [view[:, :, 4] for view in views],
        )
