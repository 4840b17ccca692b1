"""A YOLO head's maps where a loss that weighs priors by objectness looks at them (torch only)."""

from typing import NamedTuple

import torch
from torch import Tensor

from mmkd.geometry.multi_level_maps import Levels


class ObjRow(NamedTuple):
    """A level of which classes and boxes are known for K priors of each image.

    They stand for all: the sums of the weights are those of the objectness.
    """

    obj: Tensor  # (B, A, H, W), logits
    box: Tensor  # (B, A * 4, H, W), raw; 0 where the weight is
    weight: Tensor  # (B, A, H, W), of the boxes; 0 for all but the K priors
    places: Tensor  # (B, K), the priors: counted by anchor, row and column
    cls: Tensor  # (B, C, K), logits
    cls_weight: Tensor  # (B, K)


class ObjRows:
    """The levels of one head, in the place of (cls_scores, bbox_preds, objectnesses).

    Args:
        levels: of the head.
    """

    def __init__(self, levels: list[ObjRow]) -> None:
        self.levels = levels

    def beside(self, cls_scores: Levels) -> tuple[Levels, Levels, Levels]:
        """The head's output, with other class maps in the place of its own."""
        return cls_scores, [level.box for level in self.levels], [x.obj for x in self.levels]


def class_rows(maps: Tensor, index: Tensor) -> Tensor:
    """The classes of some priors: (B, C, K).

    Args:
        maps: (B, A, C, H, W).
        index: (B, K), counted by anchor, row and column.

    Example:
        >>> class_rows(torch.arange(8.0).view(1, 2, 2, 1, 2), torch.tensor([[1, 2]]))
        tensor([[[1., 4.],
                 [3., 6.]]])
    """
    places = row_places(index, maps.size(2), maps.size(3) * maps.size(4)).flatten(1)
    return maps.flatten(1).gather(1, places).unflatten(1, (maps.size(2), -1))


def row_places(index: Tensor, width: int, area: int) -> Tensor:
    """Where the channels of priors (B, K) lie in a flat map (A * width * area): (B, width, K)."""
    first = index.div(area, rounding_mode='floor') * (width * area) + index % area
    return first.unsqueeze(1) + torch.arange(width, device=index.device)[:, None] * area
