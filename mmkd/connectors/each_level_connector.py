"""A connector of one map on each level of a pyramid."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmrazor.models.architectures.connectors.base_connector import BaseConnector
from mmrazor.registry import MODELS
from torch import Tensor, nn

from mmkd.geometry.multi_level_maps import Levels, as_levels, describe


@MODELS.register_module()
class EachLevelConnector(BaseConnector):
    """A connector of its own for each level, such as MMRazor's ``MGDConnector``.

    In a pair the channels may be left out: they are taken from the two models.

    Args:
        connector (dict): its config, without channels.
        in_channels (int | list[int]): of the student, per level if a list.
        out_channels (int | list[int]): of the teacher.
        names (Sequence[str]): what the connector calls them. Defaults to those of MGDConnector.

    Raises:
        ValueError: for lists of unequal length, for another number of levels, and for a connector
            that states other channels.

    Example:
        >>> import torch
        >>> masked = EachLevelConnector(dict(type='MGDConnector'), [8, 16], 32)
        >>> [tuple(m.shape) for m in masked([torch.zeros(1, 8, 4, 6), torch.zeros(1, 16, 2, 3)])]
        [(1, 32, 4, 6), (1, 32, 2, 3)]
    """

    from_models = {'in_channels': 'channels', 'out_channels': 'counterpart_channels'}

    def __init__(
        self,
        connector: Mapping[str, Any],
        in_channels: int | Sequence[int],
        out_channels: int | Sequence[int],
        names: Sequence[str] = ('student_channels', 'teacher_channels'),
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        given = (in_channels, out_channels)
        lengths = {len(item) for item in given if isinstance(item, list | tuple)}
        if len(lengths) > 1:
            raise ValueError(f'in_channels and out_channels need one entry per level, got {given}.')
        number = max(lengths, default=1)
        ins, outs = (i if isinstance(i, list | tuple) else [i] * number for i in given)
        for name, channels in zip(names, (ins, outs), strict=True):
            stated = connector.get(name)
            if stated is not None and any(stated != own for own in channels):
                raise ValueError(
                    f'connector.{name} must be the channels of each level, {list(channels)}, but '
                    f'got {stated}. Leave it out.'
                )
        self.each = nn.ModuleList(
            MODELS.build({**connector, names[0]: i, names[1]: o})
            for i, o in zip(ins, outs, strict=True)
        )

    def forward_train(self, feature: Levels) -> Tensor | list[Tensor]:
        """A map or levels (B, C_S, H, W) -> the same structure of what the connectors give."""
        levels = as_levels(feature, 'features')
        if len(levels) != len(self.each):
            raise ValueError(
                f'features must have {len(self.each)} levels, as in_channels and out_channels '
                f'have, got {describe(levels)}. Correct them, or leave them out.'
            )
        found = [connect(level) for connect, level in zip(self.each, levels, strict=True)]
        return found[0] if isinstance(feature, Tensor) else found
