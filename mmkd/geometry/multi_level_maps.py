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
    if torch.onnx.is_in_onnx_export():  # into operators that keep the number of images open
        parts = [m.permute(0, 2, 3, 1).reshape(m.size(0), -1, width) for m in levels]
        return upcast(torch.cat(parts, dim=1))
    rows = _rows_below(levels, width)
    return _Rows.apply(width, *levels) if rows is None else rows


def rows_as_levels(rows: Tensor, shapes: Sequence[Sequence[int]]) -> list[Tensor]:
    """Rows of priors (B, P, width) as levels (B, A * width, H, W) that are views of them.

    Args:
        rows: contiguous, ordered as by :func:`flatten_levels`.
        shapes: of the levels, each (A * width, H, W).

    Example:
        >>> rows = torch.arange(12.0).view(1, 3, 4)
        >>> rows_as_levels(rows, [(4, 1, 2), (4, 1, 1)])[0].flatten()
        tensor([0., 4., 1., 5., 2., 6., 3., 7.])
    """
    priors = [c // rows.size(2) * h * w for c, h, w in shapes]
    return [
        part.unflatten(1, (h, w, c // rows.size(2))).flatten(3).permute(0, 3, 1, 2)
        for part, (c, h, w) in zip(rows.split(priors, dim=1), shapes, strict=True)
    ]


class _Rows(torch.autograd.Function):
    """Copies each map once, where ``reshape`` and ``cat`` would do so twice."""

    @staticmethod
    def forward(ctx: Any, width: int, *levels: Tensor) -> Tensor:
        ctx.dtypes, ctx.shapes = [m.dtype for m in levels], [m.shape[1:] for m in levels]
        priors = sum(m[0].numel() for m in levels) // width if len(levels[0]) else 0
        dtype = torch.promote_types(ctx.dtypes[0], torch.float32)
        rows = levels[0].new_empty(len(levels[0]), priors, width, dtype=dtype)
        for part, m in zip(rows_as_levels(rows, ctx.shapes), levels, strict=True):
            part.copy_(m)
        return rows

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        parts = rows_as_levels(grad.contiguous(), ctx.shapes)
        return None, *(part.to(dtype) for part, dtype in zip(parts, ctx.dtypes, strict=True))


def _rows_below(levels: Sequence[Tensor], width: int) -> Tensor | None:
    """The rows of which ``levels`` are views, if they are."""
    first, batch = levels[0], len(levels[0])
    priors = sum(m[0].numel() for m in levels) // width if batch else 0
    storage = first.untyped_storage()
    if (
        any(m.requires_grad or m.untyped_storage().data_ptr() != storage.data_ptr() for m in levels)
        or upcast(first).dtype != first.dtype
        or first.storage_offset() + batch * priors * width > storage.nbytes() // first.itemsize
    ):
        return None
    rows = first.as_strided((batch, priors, width), (priors * width, width, 1))
    views = rows_as_levels(rows, [m.shape[1:] for m in levels])
    same = all(
        m.dtype == view.dtype and m.data_ptr() == view.data_ptr() and m.stride() == view.stride()
        for m, view in zip(levels, views, strict=True)
    )
    return rows if same and batch else None


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
