"""Pyramids of maps: checked, and flattened into rows of priors (torch only)."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

#: Multi-level maps: (B, C, H, W) for each level, or one such map.
Levels = Tensor | Sequence[Tensor]


def as_levels(maps: Levels, name: str) -> list[Tensor]:
    """A single map or a sequence of maps as a list of (B, C, H, W) maps.

    Raises:
        ValueError: if ``maps`` is anything else.
    """
    levels = [maps] if isinstance(maps, Tensor) else maps
    if (
        not isinstance(levels, list | tuple)
        or not levels
        or not all(isinstance(level, Tensor) and level.dim() == 4 for level in levels)
    ):
        raise ValueError(
            f'{name} must be a (B, C, H, W) map or a list of such levels, got {describe(maps)}. '
            'Map the argument to a record that holds the raw maps (see `data_idx`).'
        )
    return list(levels)


def describe(value: object) -> str:
    """Type and shape of what was received, for error messages.

    >>> describe([torch.zeros(1, 2), None])
    'list of [(1, 2), NoneType]'
    """
    if isinstance(value, Tensor):
        return str(tuple(value.shape))
    if isinstance(value, list | tuple):
        items = ', '.join(describe(item) for item in value[:8])
        more = ', ...' if len(value) > 8 else ''
        return f'{type(value).__name__} of [{items}{more}]'
    return type(value).__name__


def paired_levels(preds_S: Levels, preds_T: Levels, what: str) -> tuple[list[Tensor], list[Tensor]]:
    """Both pyramids as lists, the teacher's detached and on the student's device.

    Raises:
        ValueError: if they differ in their number of levels or in a shape.
    """
    levels_S = as_levels(preds_S, 'preds_S')
    levels_T = as_levels(preds_T, 'preds_T')
    if [level.shape for level in levels_S] != [level.shape for level in levels_T]:
        raise ValueError(
            f'student and teacher must agree in {what}: every level of preds_S and preds_T needs '
            f'the same shape, got student {describe(levels_S)} and teacher {describe(levels_T)}. '
            'Choose a teacher with the same classes, priors and strides, or align one side with '
            'a connector.'
        )
    return levels_S, [t.detach().to(s.device) for s, t in zip(levels_S, levels_T, strict=True)]


def upcast(x: Tensor) -> Tensor:
    """float16 and bfloat16 to float32, in which sums and logarithms are safe."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def flatten_levels(levels: Sequence[Tensor], width: int) -> Tensor:
    """Levels (B, A * width, H, W) as rows of priors, ordered by level, row, column, anchor.

    Returns:
        Tensor: (B, P, width), at least float32.

    Example:
        >>> flatten_levels([torch.zeros(2, 12, 3, 5), torch.zeros(2, 8, 1, 2)], 4).shape
        torch.Size([2, 49, 4])
    """
    # (B, A * width, H, W) -> (B, H, W, A * width) -> (B, H * W * A, width)
    rows = [upcast(m.permute(0, 2, 3, 1).reshape(m.size(0), -1, width)) for m in levels]
    return torch.cat(rows, dim=1)


class PriorTargets(NamedTuple):
    """What an anchor head's ``get_targets`` assigned, over all P priors of the pyramid."""

    labels: Tensor  # (B, P), int64; a class, or C for background
    label_weights: Tensor  # (B, P); 0 for a prior that is ignored
    bbox_targets: Tensor  # (B, P, 4), encoded
    bbox_weights: Tensor  # (B, P, 4); 0 for every prior that is not positive
    num_pos: int | float | Tensor


def cat_targets(targets: Sequence[Any], levels: Sequence[Tensor]) -> PriorTargets:
    """Concatenate the output of ``get_targets`` over the levels.

    Args:
        targets: (labels, label weights, box targets, box weights, N_pos); the first four are
            lists over levels of (B, P_level, ...) tensors. Further items are left alone.
        levels: the maps (B, A * ..., H, W) that the targets belong to.

    Raises:
        ValueError: if ``targets`` is not of that form, or does not fit ``levels``.
    """
    if not isinstance(targets, list | tuple) or len(targets) < 5:
        raise ValueError(
            "targets must be what the head's `get_targets` returns, (labels, label weights, box "
            f'targets, box weights, N_pos), got {describe(targets)}. Record it with '
            "`type='MethodOutputs', source='mmdet.models.dense_heads.SSDHead.get_targets'` from "
            'the student.'
        )
    parts = []
    for part, name, tail in zip(
        targets[:4],
        ('labels', 'label weights', 'box targets', 'box weights'),
        ((), (), (4,), (4,)),
        strict=True,
    ):
        part = [part] if isinstance(part, Tensor) else list(part)
        fits = len(part) == len(levels) and all(
            t.dim() == 2 + len(tail)
            and t.size(0) == m.size(0)
            and t.size(1) % m[0, 0].numel() == 0
            and t.size(1) > 0
            and tuple(t.shape[2:]) == tail
            for t, m in zip(part, levels, strict=True)
        )
        if not fits:
            raise ValueError(
                f'{name} in targets must hold one (B, P_level{"".join(f", {n}" for n in tail)}) '
                'tensor per level, P_level a multiple of H * W, got '
                f'{describe(part)} for maps {describe(list(levels))}. Record targets and maps '
                'from the same head in the same step.'
            )
        device = levels[0].device
        parts.append(torch.cat([t.detach().to(device) for t in part], dim=1))
    labels, label_weights, boxes, box_weights = parts
    return PriorTargets(labels.long(), label_weights, boxes, box_weights, targets[4])
