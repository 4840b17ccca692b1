"""Stand-in for mmcv's roi_align."""

from collections.abc import Iterator

import torch
from torch import Tensor

from mmkd.compat.ops.torchvision_op import torchvision_op
from mmkd.geometry.multi_level_maps import upcast

SUPPLIED = ('roi_align_forward', 'roi_align_backward')


ROI_VALUES = 1 << 23  # interpolated values held at a time in roi_align


def corners(y: Tensor, x: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Bilinear interpolation at (y, x): flat pixel indices and weights, four for each y.

    A point more than one pixel outside the map has weight 0; one at its rim reads the rim.
    """
    inside = (y >= -1) & (y <= height) & (x >= -1) & (x <= width)  # and a number
    y, x = y.where(inside, 0).clamp(0, height - 1), x.where(inside, 0).clamp(0, width - 1)
    y_low, x_low = y.floor(), x.floor()
    y_high, x_high = (y_low + 1).clamp(max=height - 1), (x_low + 1).clamp(max=width - 1)
    y_part, x_part = y - y_low, x - x_low
    index = torch.stack(
        [
            y_low * width + x_low,
            y_low * width + x_high,
            y_high * width + x_low,
            y_high * width + x_high,
        ]
    )
    weight = torch.stack(
        [
            (1 - y_part) * (1 - x_part),
            (1 - y_part) * x_part,
            y_part * (1 - x_part),
            y_part * x_part,
        ]
    )
    return index.long(), weight * inside


def roi_samples(
    rois: Tensor,
    channels: int,
    bins: tuple[int, int],
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Sample points of every RoI's bins, RoIs with equally many points together.

    Yields:
        tuple: indices (n,) of RoIs, and the points' y and x, each (n, ph, pw, gh * gw).
    """
    start_x, start_y, end_x, end_y = (rois[:, 1:] * spatial_scale - 0.5 * aligned).unbind(1)
    size = torch.stack([end_y - start_y, end_x - start_x], dim=1)  # (K, 2)
    if not aligned:
        size = size.clamp(min=1)  # what detectors trained before `aligned` existed expect
    bin_size = size / size.new_tensor(bins)
    if sampling_ratio > 0:
        grids = torch.full_like(size, sampling_ratio, dtype=torch.long)
    else:
        # A side below 0 (or no number) has no point, as in the compiled CUDA op: untrained
        # detectors propose such boxes.
        grids = bin_size.float().nan_to_num(0, 0, 0).ceil().long().clamp(min=0)
    # A loop over the distinct grids, of which there are few, not over the RoIs.
    for grid in grids.unique(dim=0):
        members = (grids == grid).all(1).nonzero().flatten()
        gh, gw = grid.tolist()
        values = max(1, channels * bins[0] * bins[1] * gh * gw)
        for chunk in members.split(max(1, ROI_VALUES // values)):
            points = []
            for start, side, n_bins, n_points in (
                (start_y, bin_size[:, 0], bins[0], gh),
                (start_x, bin_size[:, 1], bins[1], gw),
            ):
                corner, step = start[chunk, None, None], side[chunk, None, None]
                first = torch.arange(n_bins, device=rois.device)[:, None]
                inner = torch.arange(n_points, device=rois.device) + 0.5
                # Summed in the compiled op's order: it rounds alike at the map's rim.
                points.append(corner + first * step + inner * step / max(n_points, 1))
            y, x = points  # (n, ph, gh), (n, pw, gw)
            shape = (len(chunk), *bins, gh, gw)
            y = y[:, :, None, :, None].expand(shape).flatten(3)
            x = x[:, None, :, None, :].expand(shape).flatten(3)
            yield chunk, y, x


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Fill ``output`` (K, C, ph, pw) with RoIs pooled from ``input`` (B, C, H, W).

    Args:
        input (Tensor): (B, C, H, W).
        rois (Tensor): (K, 5), batch index and box.
        output (Tensor): (K, C, ph, pw).
        argmax_y (Tensor): (K, C, ph, pw); max pooling writes the y of each maximum, -1 for none.
        argmax_x (Tensor): the same for x.
        aligned_height (int): ph.
        aligned_width (int): pw.
        spatial_scale (float): box coordinates are multiplied by it.
        sampling_ratio (int): points per bin and side; 0 takes one per started pixel.
        pool_mode (int): 0 for max, 1 for average.
        aligned (bool): shift boxes by half a pixel.
    """
    bins = (aligned_height, aligned_width)
    op = torchvision_op('roi_align', input.device.type)
    # torchvision's does not check for sides below 0 on a CPU, and asks for negative memory.
    ordered = rois.device.type != 'cpu' or bool((rois[:, 3:] >= rois[:, 1:3]).all())
    if op and pool_mode == 1 and len(rois) and ordered:
        feats, boxes = upcast(input), upcast(rois)
        output.copy_(op(feats, boxes.to(feats), bins, spatial_scale, sampling_ratio, aligned))
        return
    channels, height, width = input.shape[1:]
    pixels = upcast(input).permute(0, 2, 3, 1).reshape(-1, channels)  # (B*H*W, C)
    boxes = upcast(rois)
    first_pixel = boxes[:, 0].long() * (height * width)
    # Where a bin has no point above it, max pooling leaves the kernel's starting value.
    floor = -1e4 if input.device.type == 'cpu' else torch.finfo(torch.float32).min
    for chunk, y, x in roi_samples(
        boxes, channels, bins, spatial_scale, sampling_ratio, bool(aligned)
    ):
        index, weight = corners(y, x, height, width)
        index = index + first_pixel[chunk].view(-1, 1, 1, 1)
        values = sum(
            pixels[i.flatten()].view(*i.shape, channels) * w[..., None]
            for i, w in zip(index, weight.to(pixels), strict=True)
        )  # (n, ph, pw, gh * gw, C)
        if pool_mode == 1:
            pooled = values.sum(3) / max(1, values.size(3))
        elif values.size(3) == 0:
            pooled = values.new_full((len(chunk), *bins, channels), floor)
            argmax_y[chunk] = argmax_x[chunk] = -1
        else:
            pooled, best = values.max(3)  # (n, ph, pw, C)
            for argmax, coordinate in ((argmax_y, y), (argmax_x, x)):
                at = coordinate.gather(3, best).masked_fill(pooled <= floor, -1)
                argmax[chunk] = at.permute(0, 3, 1, 2).to(argmax)
            pooled = pooled.clamp(min=floor)
        output[chunk] = pooled.permute(0, 3, 1, 2).to(output)


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Add to ``grad_input`` (B, C, H, W) what ``grad_output`` (K, C, ph, pw) sends back."""
    batch, channels, height, width = grad_input.shape
    boxes, grad = upcast(rois), upcast(grad_output)
    first_pixel = boxes[:, 0].long() * (height * width)
    total = grad.new_zeros(batch * height * width, channels)
    if pool_mode == 0:
        y, x = upcast(argmax_y), upcast(argmax_x)
        index, weight = corners(y, x, height, width)  # (4, K, C, ph, pw)
        index = index + first_pixel.view(-1, 1, 1, 1)
        index = index * channels + torch.arange(channels, device=index.device).view(-1, 1, 1)
        sent = grad * weight * (y != -1)
        total.view(-1).index_add_(0, index.flatten(), sent.flatten().to(total))
    else:
        bins = (aligned_height, aligned_width)
        for chunk, y, x in roi_samples(
            boxes, channels, bins, spatial_scale, sampling_ratio, bool(aligned)
        ):
            index, weight = corners(y, x, height, width)  # (4, n, ph, pw, gh * gw)
            index = index + first_pixel[chunk].view(-1, 1, 1, 1)
            share = grad[chunk].permute(0, 2, 3, 1)[:, :, :, None] / max(1, y.size(3))
            for i, w in zip(index, weight.to(total), strict=True):
                total.index_add_(0, i.flatten(), (share * w[..., None]).flatten(0, 3))
    grad_input += total.view(batch, height, width, channels).permute(0, 3, 1, 2).to(grad_input)
