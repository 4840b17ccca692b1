"""How sure a detector is of any object, cell by cell of its features."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mmkd.geometry.multi_level_maps import upcast
from mmkd.heads.predictions import Predictions

TOP_ROWS = 100  # of an image, whose boxes are drawn where a head has no priors


@torch.no_grad()
def score_maps(
    found: Predictions, sizes: Sequence[tuple[int, int]], input_shape: tuple[int, int]
) -> list[Tensor]:
    """The highest score of any class at each cell.

    On a level on which the head has priors it is that of the cell's own; on others (and of
    proposals and queries) that of the surest box around the centre of the cell.

    Args:
        found: rows of B images.
        sizes: (H, W) of each level.
        input_shape: (H, W) of the images in pixels.

    Returns:
        list[Tensor]: of each level (B, 1, H, W).
    """
    score = upcast(found.log_prob).exp().amax(-1)  # (B, P)
    if found.valid is not None:
        score = score * found.valid
    strides = _strides(found.priors, sizes, input_shape)
    return [
        _drawn(score, upcast(found.boxes), size, input_shape)
        if stride is None or found.priors is None
        else _at_priors(score, found.priors, size, stride)
        for size, stride in zip(sizes, strides, strict=True)
    ]


def _strides(
    priors: Tensor | None, sizes: Sequence[tuple[int, int]], input_shape: tuple[int, int]
) -> list[Tensor | None]:
    """Of each level the stride (2,), in x and y, of the priors that lie on it."""
    if priors is None or not len(priors):
        return [None] * len(sizes)
    # In the order of the head's levels, which is that of the features.
    changes = (priors[1:, 2:] != priors[:-1, 2:]).any(1)
    first = torch.cat([changes.new_ones(1), changes])
    own = list(priors[first, 2:])
    if len(own) == len(sizes) and all(map(_fits, own, sizes, [input_shape] * len(own))):
        return [*own]
    chosen: list[Tensor | None] = []
    for size in sizes:
        fitting = [stride for stride in own if _fits(stride, size, input_shape)]
        gaps = [abs(float(stride[0]) - input_shape[1] / size[1]) for stride in fitting]
        chosen.append(fitting[gaps.index(min(gaps))] if gaps else None)
    return chosen


def _fits(stride: Tensor, size: tuple[int, int], input_shape: tuple[int, int]) -> bool:
    """Whether cells of this stride cover the images, to less than a cell."""
    x, y = stride.tolist()
    return abs(x * size[1] - input_shape[1]) < x and abs(y * size[0] - input_shape[0]) < y


def _at_priors(score: Tensor, priors: Tensor, size: tuple[int, int], stride: Tensor) -> Tensor:
    height, width = size
    on = (priors[:, 2:] == stride).all(1)
    x, y = (priors[on, :2] / stride + 1e-3).floor().long().unbind(1)
    cell = y.clamp(0, height - 1) * width + x.clamp(0, width - 1)
    maps = score.new_zeros(len(score), height * width)
    maps.scatter_reduce_(1, cell.expand(len(score), -1), score[:, on], 'amax')
    return maps.view(-1, 1, height, width)


def _drawn(
    score: Tensor, boxes: Tensor, size: tuple[int, int], input_shape: tuple[int, int]
) -> Tensor:
    height, width = size
    score, best = score.topk(min(TOP_ROWS, score.size(1)), dim=1)
    x1, y1, x2, y2 = boxes.gather(1, best[..., None].expand(-1, -1, 4))[..., None].unbind(2)
    x = (torch.arange(width, device=boxes.device) + 0.5) * (input_shape[1] / width)
    y = (torch.arange(height, device=boxes.device) + 0.5) * (input_shape[0] / height)
    inside_x = ((x > x1) & (x < x2)) * score[..., None]  # (B, K, W)
    inside_y = ((y > y1) & (y < y2)).to(score)  # (B, K, H)
    if not score.size(1):
        return score.new_zeros(len(score), 1, height, width)
    return (inside_y[..., None] * inside_x[:, :, None]).amax(1, keepdim=True)
