"""How well the shapes of priors fit the shapes of objects, wherever these lie (torch only)."""

import torch
from torch import Tensor


def shape_iou(sizes: Tensor, anchors: Tensor, offsets: Tensor | float = 0.0) -> Tensor:
    """The IoU of boxes with anchors whose centres are ``offsets`` away, along x and along y.

    Args:
        sizes: (G, 2), width and height in pixels.
        anchors: (A, 2).
        offsets: (A, 2), or one number. A centre on a grid is half a stride away at most, and a
            quarter on average. Defaults to 0.

    Returns:
        Tensor: (G, A).

    Example:
        >>> shape_iou(torch.tensor([[8.0, 8.0]]), torch.tensor([[8.0, 8.0], [16.0, 8.0]]))
        tensor([[1.0000, 0.5000]])
    """
    own, other = sizes[:, None], anchors[None]
    reach = (own + other) / 2 - torch.as_tensor(offsets, dtype=sizes.dtype, device=sizes.device)
    overlap = torch.minimum(torch.minimum(own, other), reach).clamp(min=0).prod(-1)
    return overlap / (own.prod(-1) + other.prod(-1) - overlap).clamp(min=1e-9)


def shape_ratio(sizes: Tensor, anchors: Tensor) -> Tensor:
    """By how much width or height differ, the larger over the smaller; YOLOv5 asks for < 4.

    Args:
        sizes: (G, 2), width and height in pixels.
        anchors: (A, 2).

    Returns:
        Tensor: (G, A), at least 1.

    Example:
        >>> shape_ratio(torch.tensor([[8.0, 8.0]]), torch.tensor([[8.0, 16.0], [2.0, 8.0]]))
        tensor([[2., 4.]])
    """
    ratios = sizes[:, None].clamp(min=1e-6) / anchors[None]
    return torch.maximum(ratios, 1 / ratios).amax(-1)


def box_iou(boxes: Tensor, priors: Tensor) -> Tensor:
    """IoU (G, P) of boxes (G, 4) with priors (P, 4)."""
    low = torch.maximum(boxes[:, None, :2], priors[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], priors[None, :, 2:])
    overlap = (high - low).clamp(min=0).prod(-1)
    areas = [(found[:, 2:] - found[:, :2]).clamp(min=0).prod(-1) for found in (boxes, priors)]
    return overlap / (areas[0][:, None] + areas[1][None] - overlap).clamp(min=1e-9)
