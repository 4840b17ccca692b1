"""The maths of deformable convolutions.

A deformable convolution is bilinear sampling and one matrix product; torchvision's op serves its
forward where it works. Not its backward, which differs from mmcv's for points that lie exactly one
pixel outside, as the rim of an untrained layer's do. Half precision is computed in float32 and
rounded once, at the end.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from mmkd.compat.ops.torchvision_op import torchvision_op
from mmkd.geometry.multi_level_maps import upcast

VALUES = 1 << 24  # samples held at a time: channels x points x places x images


class Geometry(NamedTuple):
    """Of a deformable convolution; pairs in y and x."""

    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    deform_groups: int


def sample(pixels: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Bilinear samples of maps that are 0 beyond their rim.

    A point on a pixel has the slope to its right and below, as in the compiled op: there are
    many, since a deformable convolution starts with offsets of 0. One that is a whole pixel
    outside has none.

    Args:
        pixels: (N, C, H, W).
        y: (N, n), in pixels.
        x: (N, n).

    Returns:
        Tensor: (N, C, n).
    """
    height, width = pixels.shape[-2:]
    seen = (y > -1) & (y < height) & (x > -1) & (x < width)  # and a number
    y, x = y.where(seen, 0), x.where(seen, 0)
    top, left = y.detach().floor(), x.detach().floor()
    down, across = y - top, x - left  # the parts of a pixel, (N, n)
    flat = pixels.flatten(2)
    total = flat.new_zeros(())
    for row, row_weight in ((top, 1 - down), (top + 1, down)):
        for column, column_weight in ((left, 1 - across), (left + 1, across)):
            inside = seen & (row >= 0) & (row < height) & (column >= 0) & (column < width)
            index = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
            values = flat.gather(2, index.long()[:, None].expand(-1, flat.size(1), -1))
            total = total + values * (row_weight * column_weight * inside)[:, None]
    return total


def deformable(
    input: Tensor, offset: Tensor, weight: Tensor, mask: Tensor | None, geometry: Geometry
) -> Tensor:
    """A deformable convolution without bias, differentiable: (B, O, Ho, Wo).

    Args:
        input: (B, C, H, W).
        offset: (B, G * K * 2, Ho, Wo), y and x of each of the K points of each deform group.
        weight: (O, C / groups, kh, kw).
        mask: (B, G * K, Ho, Wo), the weight of each point; None for 1.
        geometry: stride, padding, dilation and G.
    """
    batch, channels = input.shape[:2]
    out_channels, group_channels, kernel_h, kernel_w = weight.shape
    out_h, out_w = offset.shape[-2:]
    points, places = kernel_h * kernel_w, out_h * out_w

    def base(kernel: int, out: int, axis: int) -> Tensor:  # (kernel, out), before the offset
        cells = torch.arange(out, device=input.device) * geometry.stride[axis]
        taps = torch.arange(kernel, device=input.device) * geometry.dilation[axis]
        return taps[:, None] + cells - geometry.padding[axis]

    moved = offset.reshape(batch * geometry.deform_groups, kernel_h, kernel_w, 2, out_h, out_w)
    y = moved[:, :, :, 0] + base(kernel_h, out_h, 0).view(kernel_h, 1, out_h, 1)
    x = moved[:, :, :, 1] + base(kernel_w, out_w, 1).view(1, kernel_w, 1, out_w)
    deform_groups, width = geometry.deform_groups, channels // geometry.deform_groups
    pixels = input.reshape(batch * deform_groups, width, *input.shape[-2:])
    columns = sample(pixels, y.flatten(1), x.flatten(1))
    columns = columns.view(batch, deform_groups, width, points, places)
    if mask is not None:
        columns = columns * mask.reshape(batch, deform_groups, 1, points, places)
    groups = channels // group_channels
    columns = columns.reshape(batch, groups, group_channels * points, places)
    output = weight.reshape(groups, out_channels // groups, -1) @ columns
    return output.view(batch, out_channels, out_h, out_w)


def forward(
    input: Tensor, offset: Tensor, weight: Tensor, mask: Tensor | None, geometry: Geometry
) -> Tensor:
    """:func:`deformable` without a graph, by torchvision where it works."""
    input, offset, weight = map(upcast, (input, offset, weight))
    mask = None if mask is None else upcast(mask)
    op = torchvision_op('deform_conv2d', input.device.type)
    if op:  # where an offset is no number, the compiled op reads nothing
        offset = offset.nan_to_num(1e9, 1e9, -1e9)
        return op(input, offset, weight, None, *geometry[:3], mask)
    return torch.cat(
        [
            deformable(
                input[few], offset[few], weight, None if mask is None else mask[few], geometry
            )
            for few in images_at_a_time(input, offset, weight)
        ]
    )


def images_at_a_time(input: Tensor, offset: Tensor, weight: Tensor) -> list[slice]:
    """The batch in parts, of which each holds no more than VALUES samples, or is one image."""
    values = input.size(1) * weight[0, 0].numel() * offset[0:1, 0].numel()
    step = max(1, VALUES // max(1, values))
    return [slice(i, i + step) for i in range(0, max(1, len(input)), step)]


def gradients(
    wanted: tuple[str, ...],
    grad_output: Tensor,
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    mask: Tensor | None,
    geometry: Geometry,
) -> tuple[Tensor, ...]:
    """The gradients of the ``wanted`` of 'input', 'offset', 'weight', 'mask', in this order."""
    given = dict(input=input, offset=offset, weight=weight, mask=mask)
    found: dict[str, list[Tensor]] = {name: [] for name in wanted}
    for few in images_at_a_time(input, offset, weight):
        leaves = {
            name: upcast(t.detach() if name == 'weight' else t[few].detach())
            for name, t in given.items()
            if t is not None
        }
        asked = [leaves[name].requires_grad_() for name in wanted]
        with torch.enable_grad():
            output = deformable(
                leaves['input'], leaves['offset'], leaves['weight'], leaves.get('mask'), geometry
            )
        grads = torch.autograd.grad(output, asked, grad_output[few].to(output))
        for name, grad in zip(wanted, grads, strict=True):
            found[name].append(grad)
    return tuple(
        torch.stack(grads).sum(0) if name == 'weight' else torch.cat(grads)
        for name, grads in found.items()
    )
