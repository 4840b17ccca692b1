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


def best_grid_iou(
    boxes: Tensor, anchors: Tensor, stride: tuple[float, float], bounds: Tensor
) -> Tensor:
    """The highest IoU of each box with anchors that are repeated in each cell of a grid.

    Of one shape the best is that whose centre is nearest, along x and along y, so that no other
    cell is looked at.

    Args:
        boxes: (G, 4) in input pixels.
        anchors: (A, 4), those of the first cell.
        stride: of the grid, along x and along y.
        bounds: (A, 2, 2), the first and the last cell along x and along y that an anchor has.

    Returns:
        Tensor: (G,); 0 where no anchor has a cell.
    """
    step = boxes.new_tensor(stride)
    low, high = anchors[:, :2], anchors[:, 2:]
    away = (boxes[:, None, :2] + boxes[:, None, 2:]) / 2 - (low + high) / 2
    first, last = bounds.to(boxes).unbind(-1)
    shift = torch.minimum(torch.maximum((away / step).round(), first), last) * step
    overlap = torch.minimum(boxes[:, None, 2:], high + shift) - torch.maximum(
        boxes[:, None, :2], low + shift
    )
    overlap = overlap.clamp(min=0).prod(-1)
    own = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(-1)
    found = overlap / (own[:, None] + (high - low).prod(-1) - overlap).clamp(min=1e-9)
    return torch.where((first <= last).all(-1), found, 0).amax(1)
