"""Which cells of a feature map lie near objects (torch only)."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

Pair = tuple[float, float]


class AnchorGrid(NamedTuple):
    """The anchors of one level, repeated on every cell of its grid."""

    sizes: Tensor  # (A, 2), width and height in pixels
    centers: Tensor  # (A, 2), x and y of the anchor of cell (0, 0), in pixels
    stride: Pair  # in x and y
    featmap_size: tuple[int, int]  # H, W


def imitation_masks(
    gt_bboxes: Sequence[Tensor],
    anchor_sizes: Sequence[Sequence[Pair]],
    strides: Sequence[float | Pair],
    featmap_sizes: Sequence[tuple[int, int]],
    iou_factor: float = 0.5,
    scope: str = 'per_level',
) -> list[Tensor]:
    """Cells at which some anchor overlaps some object nearly as well as the best anchor does.

    With IoU_k over all cells and anchors of a level ('per_level') or of all levels
    ('all_levels'), a cell is 1 where for any object k and any anchor

        IoU_k > iou_factor * max IoU_k

    Cell (y, x) is centred at ((x + 0.5) * stride, (y + 0.5) * stride).

    Source:
        Wang et al., CVPR 2019, "Distilling object detectors with fine-grained feature imitation"
        (arXiv 1906.03609), section 3.2.

    Differs:
        nothing; the published code for YOLOv5 swaps rows and columns.

    Args:
        gt_bboxes: per image (G, 4), (x1, y1, x2, y2) in input pixels; G may be 0.
        anchor_sizes: per level the (w, h) of its anchors, in pixels.
        strides: per level, a number or (x, y).
        featmap_sizes: per level (H, W).
        iou_factor: between 0 and 1.
        scope: 'per_level' or 'all_levels'.

    Returns:
        list: per level a float32 mask (B, 1, H, W) of zeros and ones.

    Raises:
        ValueError: for arguments that do not fit together.

    Example:
        >>> box = torch.tensor([[4.0, 0.0, 12.0, 8.0]])  # centred at x = 8, y = 4
        >>> imitation_masks([box], [[(8, 8)]], [4], [(2, 4)])[0][0, 0].int()
        tensor([[0, 1, 1, 0],
                [0, 1, 1, 0]], dtype=torch.int32)
    """
    if not len(anchor_sizes) == len(strides) == len(featmap_sizes) > 0:
        raise ValueError(
            'anchor_sizes, strides and featmap_sizes need one entry per level, got '
            f'{len(anchor_sizes)}, {len(strides)} and {len(featmap_sizes)}.'
        )
    if not gt_bboxes or any(b.dim() != 2 or b.size(1) != 4 for b in gt_bboxes):
        raise ValueError(
            'gt_bboxes must hold a (G, 4) tensor for each image, got '
            f'{[tuple(b.shape) for b in gt_bboxes]}. An image without objects has shape (0, 4).'
        )
    grids = []
    for sizes, stride, featmap_size in zip(anchor_sizes, strides, featmap_sizes, strict=True):
        pair = stride if isinstance(stride, Sequence) else (stride, stride)
        size = torch.as_tensor(sizes, dtype=torch.float64).reshape(-1, 2)
        center = torch.tensor(pair, dtype=torch.float64).expand_as(size) / 2
        grids.append(AnchorGrid(size, center, pair, featmap_size))
    counts = torch.tensor([len(b) for b in gt_bboxes])
    boxes = torch.cat(list(gt_bboxes))
    image_ids = torch.arange(len(gt_bboxes)).repeat_interleave(counts, output_size=len(boxes))
    return grid_masks(boxes, image_ids, len(gt_bboxes), grids, iou_factor, scope)


def grid_masks(
    boxes: Tensor,
    image_ids: Tensor,
    num_images: int,
    grids: Sequence[AnchorGrid],
    iou_factor: float = 0.5,
    scope: str = 'per_level',
) -> list[Tensor]:
    """:func:`imitation_masks` for the boxes of all images in one tensor, and any anchor centres.

    The overlap of a grid-centred anchor with a box is a product of an overlap in x and one in y.
    So the best IoU needs only the two axes, and the lit cells of a row are one interval, whose
    ends have a closed form; intervals are added up as differences. At most G * A * H numbers are
    computed instead of G * A * H * W.

    Args:
        boxes: (G, 4), (x1, y1, x2, y2) in input pixels.
        image_ids: (G,), the image of each box.
        num_images: B.
        grids: per level.
        iou_factor: between 0 and 1.
        scope: 'per_level' or 'all_levels'.

    Returns:
        list: per level a float32 mask (B, 1, H, W) of zeros and ones.

    Raises:
        ValueError: for an unknown scope, an iou_factor outside [0, 1], anchors without extent.
    """
    if scope not in ('per_level', 'all_levels'):
        raise ValueError(f"scope must be 'per_level' or 'all_levels', got {scope!r}.")
    if not 0 <= iou_factor <= 1:
        raise ValueError(f'iou_factor must be between 0 and 1, got {iou_factor}.')
    if any(len(grid.sizes) == 0 or not (grid.sizes > 0).all() for grid in grids):
        raise ValueError('every level needs at least one anchor, of positive width and height.')
    # In float64, with products of the same order as in the definition: ties are decided alike.
    boxes = boxes.detach().double()
    image_ids = image_ids.to(boxes.device).long()
    levels = [_Overlaps(boxes, grid) for grid in grids]
    best = [level.best_iou() for level in levels]  # (G,) each
    if scope == 'all_levels':
        best = [torch.stack(best).amax(0)] * len(best)
    return [
        level.mask(iou_factor * top, image_ids, num_images)
        for level, top in zip(levels, best, strict=True)
    ]


class _Overlaps:
    """Overlaps of G boxes with the A anchors of a grid, along each axis (0 is x, 1 is y)."""

    def __init__(self, boxes: Tensor, grid: AnchorGrid) -> None:
        size = grid.sizes.to(boxes)  # (A, 2)
        self.start = grid.centers.to(boxes)
        self.stride = grid.stride
        self.cells = grid.featmap_size[::-1]  # W, H
        low, high = boxes[:, None, :2], boxes[:, None, 2:]  # (G, 1, 2)
        extent = (high - low).clamp(min=0)
        # The overlap at a centre c is min(c + from_low, to_high - c, reach), at least 0.
        self.from_low, self.to_high = size / 2 - low, size / 2 + high  # (G, A, 2)
        self.reach = torch.minimum(size, extent)
        self.areas = size[:, 0] * size[:, 1] + extent[..., 0] * extent[..., 1]  # (G, A)
        # The best cell of an axis is the one nearest to the middle of the box.
        self.best = [self._overlap(axis, self._nearest_cell(axis)) for axis in (0, 1)]  # (G, A)

    def _nearest_cell(self, axis: int) -> Tensor:
        middle = (self.to_high[..., axis] - self.from_low[..., axis]) / 2
        cell = (middle - self.start[:, axis]) / self.stride[axis]
        return cell.round_().clamp_(0, self.cells[axis] - 1)

    def _center(self, axis: int, cell: Tensor) -> Tensor:
        start = self.start[:, axis]
        return cell * self.stride[axis] + (start if cell.dim() == 2 else start[:, None])

    def _overlap(self, axis: int, cell: Tensor) -> Tensor:
        """At cells (G, A) or (G, A, N)."""
        parts = (self.from_low, self.to_high, self.reach)
        from_low, to_high, reach = (
            part[..., axis] if cell.dim() == 2 else part[..., axis, None] for part in parts
        )
        center = self._center(axis, cell)
        overlap = torch.minimum(center + from_low, to_high - center)
        return torch.minimum(overlap, reach).clamp_(min=0)

    def best_iou(self) -> Tensor:
        """(G,), over the level: IoU grows with the overlap in x and with that in y."""
        return _iou(self.best[0] * self.best[1], self.areas).amax(-1)

    def _interval(self, axis: int, other: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor]:
        """First and one past the last lit cell of an axis, where there is one.

        Args:
            axis: 0 or 1.
            other: (G, A) or (G, A, N), the overlap along the other axis.
            threshold: (G,).
        """
        parts = [self.from_low[..., axis], self.to_high[..., axis], self.areas, self.start[:, axis]]
        threshold = threshold[:, None]
        if other.dim() == 3:
            parts, threshold = [part.unsqueeze(-1) for part in parts], threshold[..., None]
        from_low, to_high, areas, start = parts
        stride = self.stride[axis]

        def lit(overlap: Tensor) -> Tensor:
            return _iou(overlap * other, areas) > threshold

        # IoU > thr <=> overlap * other > areas * thr / (1 + thr), whence the least overlap, and
        # from it both ends, here in cells.
        least = areas * (threshold / (1 + threshold) / stride) / other.clamp(min=1e-99)
        first = ((-from_low - start) / stride + least).round_()
        last = ((to_high - start) / stride - least).round_()
        # Only the cells nearest to the ends are in doubt: the definition decides on them.
        first += ~lit(self._center(axis, first) + from_low)
        last += lit(to_high - self._center(axis, last))  # one past the last
        return first.clamp_(0, self.cells[axis]), last.clamp_(0, self.cells[axis])

    def mask(self, threshold: Tensor, image_ids: Tensor, num_images: int) -> Tensor:
        """(B, 1, H, W): where any anchor has an IoU > threshold with any box of the image."""
        width, height = self.cells
        # The rows in which some cell is lit: those in which the best cell in x is.
        top, bottom = self._interval(1, self.best[0], threshold)  # (G, A)
        lit = _iou(self.reach[..., 1] * self.best[0], self.areas) > threshold[:, None]
        bottom = torch.where(lit, bottom, 0)
        # As many rows as the tallest needs; on a GPU, rather all than to wait for the number.
        rows = int((bottom - top).max()) if len(top) and top.is_cpu else height
        step = torch.arange(max(rows, 0), device=top.device, dtype=top.dtype)
        row = top[..., None] + step  # (G, A, R)
        first, last = self._interval(0, self._overlap(1, row), threshold)
        count = (row < bottom[..., None]).int()

        # Each interval is +1 at its first cell and -1 past its last; the running sum counts them.
        row = (row.clamp_(max=height - 1) + (image_ids * height)[:, None, None]) * (width + 1)
        steps = count.new_zeros(num_images * height * (width + 1))
        steps.scatter_add_(0, (row + first).long().flatten(), count.flatten())
        steps.scatter_add_(0, (row + last).long().flatten(), count.neg_().flatten())
        inside = steps.view(num_images, 1, height, width + 1).cumsum(-1)[..., :-1]
        return (inside > 0).float()


def _iou(intersection: Tensor, areas: Tensor) -> Tensor:
    return intersection / (areas - intersection)
