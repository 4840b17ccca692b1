"""The adapter that would make two maps fit, as lines of a config."""

import math
from typing import Any

from torch import Tensor


def adapter_text(own: Any, other: Any) -> str:
    """The ``FeatureAdapter`` from a student's maps to a teacher's; '' where none could do it.

    Args:
        own: the student's map (B, C, H, W), or its levels.
        other: the teacher's.

    Example:
        >>> import torch
        >>> adapter_text(torch.zeros(2, 8, 4, 4), torch.zeros(2, 32, 8, 8))
        "dict(type='FeatureAdapter', in_channels=8, out_channels=32, scale=2)"
        >>> adapter_text([torch.zeros(1, 8, 4, 6)] * 2, [torch.zeros(1, 32, 4, 6)] * 2)
        "dict(type='FeatureAdapter', in_channels=[8, 8], out_channels=[32, 32])"
        >>> adapter_text([torch.zeros(1, 8, 4, 6)] * 2, torch.zeros(1, 32, 4, 6))
        ''
    """
    single = [isinstance(maps, Tensor) for maps in (own, other)]
    if single[0] != single[1]:
        return ''
    levels = [[maps] if isinstance(maps, Tensor) else maps for maps in (own, other)]
    if not all(isinstance(maps, list | tuple) for maps in levels) or len(levels[0]) != len(
        levels[1]
    ):
        return ''
    pairs = list(zip(*levels, strict=True))
    if not pairs or not all(isinstance(m, Tensor) and m.dim() == 4 for pair in pairs for m in pair):
        return ''
    if any(s.size(0) != t.size(0) or 0 in (*s.shape, *t.shape) for s, t in pairs):
        return ''
    scales = [_scale(s, t) for s, t in pairs]
    numbers: list[Any] = [[s.size(1) for s, _ in pairs], [t.size(1) for _, t in pairs], scales]
    if len(set(scales)) == 1:
        numbers[2] = scales[0]
    if single[0]:
        numbers = [n[0] if isinstance(n, list) else n for n in numbers]
    scale = '' if numbers[2] == 1 else f', scale={numbers[2]}'
    return (
        f"dict(type='FeatureAdapter', in_channels={numbers[0]}, out_channels={numbers[1]}{scale})"
    )


def _scale(own: Tensor, other: Tensor) -> float:
    """The student's stride over the teacher's: maps are rounded up, strides are powers of two."""
    ratio = other.size(3) / own.size(3)
    nearest = 2.0 ** round(math.log2(ratio))
    found = nearest if math.ceil(own.size(3) * nearest) == other.size(3) else round(ratio, 3)
    return int(found) if found == int(found) else found
