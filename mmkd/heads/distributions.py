"""Distributions over the distances to the sides of a box: GFL's kin, YOLOv8, PPYOLOE, YOLOv6."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmkd.geometry.multi_level_maps import upcast
from mmkd.heads.grids import rows


def bins_of(head: Any) -> int:
    """How many distances each side of a head's boxes has; 0 where it predicts the sides alone.

    >>> bins_of(nn.Identity())
    0
    """
    module = getattr(head, 'head_module', None)
    if module is not None:  # MMYOLO's; those of YOLOv6 number them in three ways
        return len(module.proj) if getattr(module, 'reg_max', 0) > 1 else 0
    return int(head.reg_max) + 1 if hasattr(head, 'integral') else 0


def read_bins(head: Any, outputs: Sequence[Any]) -> Tensor:
    """Logits (B, P, 4, n) of n distances, in strides, to the left, top, right and bottom.

    In the order of the head's rows.

    Args:
        head: one with :func:`bins_of` above 0.
        outputs: of its forward; MMYOLO's head gives the logits only where its ``head_module`` is
            in training mode.
    """
    if hasattr(head, 'head_module'):
        return upcast(torch.cat(list(outputs[-1]), dim=1))
    count = bins_of(head)
    return rows(outputs[1], 4 * count).unflatten(-1, (4, count))


def check_returns_bins(head: Any) -> None:
    """Whether the head's outputs hold the logits of its distributions, in eval as in training.

    Raises:
        ValueError: they do not.
    """
    if not bins_of(head) or giver_of_bins(head) is not None:
        raise ValueError(
            "box_loss='sides' needs a teacher whose head returns the distributions that its "
            f"boxes are means of (GFL), but got {type(head).__name__}. Take box_loss='giou'."
        )


def giver_of_bins(head: Any) -> nn.Module | None:
    """The module of which the mode alone decides whether the logits are among the outputs."""
    return getattr(head, 'head_module', None)
