"""The teacher's boxes in the student's encoding."""

from typing import Any

import torch
from mmrazor.models.architectures.connectors.base_connector import BaseConnector
from mmrazor.registry import MODELS
from torch import Tensor

from mmkd.geometry.multi_level_maps import Levels, as_levels, describe, flatten_levels
from mmkd.heads.level_anchors import build_task_util


@MODELS.register_module()
class ReencodeBoxes(BaseConnector):
    """The teacher's box maps in the student's encoding, for heads whose priors or coder differ.

    Decoded with the teacher's own priors and coder, encoded again with the student's. Both need
    the same levels and as many priors per cell, in the same order. In a pair all arguments may be
    left out: they are taken from the two heads.

    Args:
        prior_generator (dict): the teacher's.
        bbox_coder (dict): the teacher's.
        student_prior_generator (dict, optional): Defaults to None, the teacher's.
        student_bbox_coder (dict, optional): Defaults to None, the teacher's.

    Raises:
        ValueError: if the two generators differ in strides or priors per cell.
    """

    aligns = ('priors', 'coder')
    from_models = {
        'prior_generator': 'priors',
        'bbox_coder': 'coder',
        'student_prior_generator': 'counterpart_priors',
        'student_bbox_coder': 'counterpart_coder',
    }

    def __init__(
        self,
        prior_generator: dict[str, Any],
        bbox_coder: dict[str, Any],
        student_prior_generator: dict[str, Any] | None = None,
        student_bbox_coder: dict[str, Any] | None = None,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.priors_T = build_task_util(prior_generator)
        self.coder_T = build_task_util(bbox_coder)
        self.priors_S = build_task_util(student_prior_generator or prior_generator)
        self.coder_S = build_task_util(student_bbox_coder or bbox_coder)
        layouts = [(g.strides, list(g.num_base_priors)) for g in (self.priors_S, self.priors_T)]
        if layouts[0] != layouts[1]:
            raise ValueError(
                'both generators need the same strides and priors per cell, got student '
                f'{layouts[0]} and teacher {layouts[1]}. Boxes of other priors cannot be paired.'
            )

    @torch.no_grad()
    def forward_train(self, feature: Levels) -> list[Tensor]:
        """Levels (B, A * 4, H, W) -> the same."""
        levels = as_levels(feature, 'box maps')
        sizes = [tuple(level.shape[-2:]) for level in levels]
        if len(levels) != self.priors_T.num_levels:
            raise ValueError(
                f'box maps must have the {self.priors_T.num_levels} levels of prior_generator, '
                f'got {describe(levels)}.'
            )
        grids = {'dtype': torch.float32, 'device': levels[0].device}
        encoded = []
        for level, own, other in zip(
            levels,
            self.priors_T.grid_priors(sizes, **grids),
            self.priors_S.grid_priors(sizes, **grids),
            strict=True,
        ):
            batch, channels, height, width = level.shape
            boxes = self.coder_T.decode(
                own.repeat(batch, 1), flatten_levels([level], 4).float().flatten(0, 1)
            )
            again = self.coder_S.encode(other.repeat(batch, 1), boxes)  # (B * H * W * A, 4)
            again = again.view(batch, height, width, channels).permute(0, 3, 1, 2)
            encoded.append(again.to(level.dtype))
        return encoded
