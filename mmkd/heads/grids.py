"""What readers of dense heads share: rows of maps, the head's own priors, and its coder."""

from collections.abc import Sequence
from typing import Any

import torch
from mmdet.structures.bbox import get_box_tensor
from torch import Tensor
from torch.nn.functional import logsigmoid

from mmkd.geometry.multi_level_maps import flatten_levels
from mmkd.heads.predictions import log_of


def rows(levels: Sequence[Tensor], width: int) -> Tensor:
    """Maps (B, A * width, H, W) as rows (B, P, width), in the order of the head's own priors."""
    return flatten_levels(levels, width)


def grid(generator: Any, levels: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """The priors of maps of these sizes.

    Returns:
        tuple: what the generator makes, boxes (P, 4) or points (P, 2), and (P, 4), the centre and
        the stride of each in x and y.
    """
    sizes = [level.shape[-2:] for level in levels]
    own = generator.grid_priors(sizes, device=levels[0].device)
    strides = [
        points.new_tensor(stride).expand(len(points), 2)
        for points, stride in zip(own, generator.strides, strict=False)
    ]
    flat = torch.cat([get_box_tensor(points) for points in own])
    return flat, torch.cat([centres(flat), torch.cat(strides)], dim=1)


def centres(priors: Tensor) -> Tensor:
    """Boxes or points (P, 4 or 2) as points (P, 2)."""
    return priors if priors.size(-1) == 2 else (priors[..., :2] + priors[..., 2:]) / 2


def per_level(values: Sequence[Any], levels: Sequence[Tensor], anchors: int = 1) -> Tensor:
    """A number for each level as (P, 1), one for each row of it."""
    like = levels[0].new_empty((), dtype=torch.float32)
    counts = [level.shape[-2:].numel() * anchors for level in levels]
    return torch.cat(
        [like.new_tensor(float(v)).expand(n, 1) for v, n in zip(values, counts, strict=False)]
    )


def class_log_prob(head: Any, logits: Tensor) -> Tensor:
    """Class logits (..., K) as log-probabilities (..., C), as the head's prediction takes them."""
    loss: Any = getattr(head, 'loss_cls', None)
    if getattr(loss, 'custom_cls_channels', False):
        scores = loss.get_activation(logits.flatten(0, -2)).view(*logits.shape[:-1], -1)
        return log_of(scores[..., : head.num_classes])
    if head.use_sigmoid_cls:
        return logsigmoid(logits)
    return logits.log_softmax(-1)[..., :-1]  # the last is the background


def decode(coder: Any, priors: Tensor, deltas: Tensor, *args: Any) -> Tensor:
    """Boxes (B, P, 4) of encoded ones (B, P, E) by the head's own coder, not clipped.

    Args:
        coder: decodes rows, (N, 2 or 4) and (N, E).
        priors: (P, 2 or 4), or (B, P, 2 or 4).
        deltas: (B, P, E).
        args: what the coder wants besides.
    """
    # By size(): where a graph is exported, the number of images stays open, as len() fixes it.
    priors = priors.expand(deltas.size(0), *priors.shape[-2:]).flatten(0, 1)
    boxes = coder.decode(priors, deltas.flatten(0, 1), *args)
    return get_box_tensor(boxes).view(*deltas.shape[:2], 4)
