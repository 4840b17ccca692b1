"""From ground truth to masks of the cells near objects."""

from collections.abc import Sequence
from typing import Any

import torch
from mmrazor.models.architectures.connectors.base_connector import BaseConnector
from mmrazor.registry import MODELS
from torch import Tensor

from mmkd.datasets.data_samples import ground_truth
from mmkd.geometry.anchor_grid import AnchorGrid, grid_masks
from mmkd.geometry.multi_level_maps import as_levels, describe
from mmkd.heads.level_anchors import level_anchors


@MODELS.register_module()
class ImitationMaskConnector(BaseConnector):
    """The cells near objects, per level, from the inputs of a head's ``loss``.

    The record is ``(x, batch_data_samples)``: the features and either mmdet's list of
    ``DetDataSample`` or MMYOLO's fast-collate dict; a further item, as of an RPN's
    ``loss_and_predict``, is left alone. Record it with ``type='MethodInputsCopy'``, since MMYOLO's
    head overwrites the boxes. The maths is :func:`mmkd.geometry.imitation_masks`; the generator's
    own centres are honoured.

    Args:
        prior_generator (dict | list): config (or instance) of the model's anchor generator, or a
            list of (w, h) in cells, which every level shares. In a pair it may be left out: the
            head's own.
        iou_factor (float): Defaults to 0.5.
        scope (str): 'per_level' or 'all_levels': where an object's best IoU is looked for.
            Defaults to 'per_level'.
        strides (list, optional): of the levels, with a list of (w, h) only. Defaults to None.
        levels (list[int], optional): the levels whose masks are returned; the best IoU is still
            that over all. Defaults to None, all.

    Raises:
        ValueError: when built: a generator without anchors, a bad scope or factor; when called:
            another record, or other levels than the generator's.
    """

    from_models = {'prior_generator': 'priors'}

    def __init__(
        self,
        prior_generator: Any,
        iou_factor: float = 0.5,
        scope: str = 'per_level',
        strides: Sequence[float] | None = None,
        levels: Sequence[int] | None = None,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.anchors = level_anchors(prior_generator, strides)
        self.iou_factor = iou_factor
        self.scope = scope
        self.levels = list(range(len(self.anchors))) if levels is None else list(levels)
        if any(not 0 <= level < len(self.anchors) for level in self.levels):
            raise ValueError(
                f'levels must be among the {len(self.anchors)} levels of prior_generator, got '
                f'{self.levels}.'
            )
        self._masks(torch.zeros(0, 4), torch.zeros(0), 1, [(1, 1)] * len(self.anchors))

    @torch.no_grad()
    def forward_train(self, feature: Any) -> list[Tensor]:
        """The record (x, batch_data_samples) -> per level a mask (B, 1, H, W)."""
        if not isinstance(feature, list | tuple) or len(feature) < 2:
            raise ValueError(
                "the record must be the inputs (x, batch_data_samples) of the head's `loss`, got "
                f"{describe(feature)}. Record it with `type='MethodInputsCopy', "
                "source='...YOLOv5Head.loss'`, without data_idx."
            )
        maps = as_levels(feature[0], 'x')
        if len(maps) != len(self.anchors):
            raise ValueError(
                f'x must have the {len(self.anchors)} levels of prior_generator, got '
                f'{describe(maps)}. Record the inputs of the head that owns the anchors.'
            )
        boxes, image_ids = ground_truth(feature[1])
        sizes = [(m.size(2), m.size(3)) for m in maps]
        masks = self._masks(boxes, image_ids, maps[0].size(0), sizes)
        return [masks[level] for level in self.levels]

    def _masks(
        self, boxes: Tensor, image_ids: Tensor, num_images: int, sizes: list[tuple[int, int]]
    ) -> list[Tensor]:
        grids = [
            AnchorGrid(*anchors, featmap_size=size)
            for anchors, size in zip(self.anchors, sizes, strict=True)
        ]
        return grid_masks(boxes, image_ids, num_images, grids, self.iou_factor, self.scope)
