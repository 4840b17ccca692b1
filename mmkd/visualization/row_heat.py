"""The scores of a detector's rows over the image."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mmkd.heads.predictions import Predictions


@torch.no_grad()
def row_heat(rows: Predictions, size: Sequence[int]) -> Tensor:
    """The highest score of any class of a row at each pixel, (B, H, W) from 0 to 1.

    A row with a prior colours its cell, which lies around the prior and is as large as its stride;
    cells at the border reach up to it. A row without one, a proposal's or a query's, colours its
    box. Rows that do not count (``valid``) colour nothing.

    Args:
        rows: of any head.
        size: (H, W) of the batch in pixels.
    """
    score = rows.log_prob.exp().amax(-1)  # (B, P)
    if rows.valid is not None:
        score = score * rows.valid
    return _by_box(score, rows.boxes, size) if rows.priors is None else _by_cell(score, rows, size)


def _by_cell(score: Tensor, rows: Predictions, size: Sequence[int]) -> Tensor:
    assert rows.priors is not None
    heat = score.new_zeros(len(score), *size)
    strides, group = rows.priors[:, 2:].unique(dim=0, return_inverse=True)  # a level each
    for level, stride in enumerate(strides):
        centres = rows.priors[group == level, :2]
        first = centres.amin(0)
        cell = ((centres - first) / stride).round().long()
        width, height = (cell.amax(0) + 1).tolist()
        place = (cell[:, 1] * width + cell[:, 0]).expand(len(score), -1)
        cells = score.new_zeros(len(score), width * height)
        cells.scatter_reduce_(1, place, score[:, group == level], 'amax')
        column, row = (
            ((torch.arange(pixels, device=score.device) + 0.5 - start) / step + 0.5)
            .floor()
            .clamp(0, count - 1)
            .long()
            for pixels, start, step, count in zip(
                reversed(size), first, stride, (width, height), strict=True
            )
        )
        grown = cells.view(-1, height, width)[:, row][:, :, column]
        heat = torch.maximum(heat, grown)
    return heat


def _by_box(score: Tensor, boxes: Tensor, size: Sequence[int]) -> Tensor:
    heat = torch.zeros(len(score), *size)
    limit = torch.tensor([*size[::-1], *size[::-1]])
    corners = boxes.detach().float().cpu().nan_to_num()
    corners = torch.cat([corners[..., :2].floor(), corners[..., 2:].ceil()], -1)
    corners = torch.minimum(corners.clamp(min=0), limit).long()
    for image, own, found in zip(heat, corners, score.cpu(), strict=True):
        for i in found.argsort().tolist():  # the surest last, over all others
            x1, y1, x2, y2 = own[i].tolist()
            image[y1:y2, x1:x2] = found[i]
    return heat.to(score.device)
