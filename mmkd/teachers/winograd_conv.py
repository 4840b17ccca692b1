"""Convolutions of 3 x 3 cells on a CPU with a quarter of the multiplications.

Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016, F(4x4, 3x3);
for the choice of points Barabasz et al., "Error Analysis and Improving the Accuracy of Winograd
Convolution for Deep Neural Networks", TOMS 2020.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_TILE = 4  # rows and columns of the maps that are found at once, from
_SIDE = 6  # rows and columns of the maps that are read
_ROOT = 2**0.5
#: And infinity. With these products are rounded least; x and 1/x both, for the way back.
_POINTS = 0.0, _ROOT, -_ROOT, 1 / _ROOT, -1 / _ROOT
_TILES = 200  # at a time, so that what is between stays in the cache
_CHANNELS = 128  # at least, of what the convolution reads and gives, of one of them
_MANY = 256  # and
_CELLS = 800  # of the maps of a batch: for less nothing is gained


def _values(count: int) -> Tensor:
    """The first powers (6, count) of the points; at infinity the highest alone counts."""
    powers = torch.tensor(_POINTS, dtype=torch.float64)[:, None] ** torch.arange(count)
    return torch.cat([powers, torch.eye(count, dtype=torch.float64)[-1:]])


def _twice(matrix: Tensor) -> Tensor:
    """What a matrix does, done to both axes of a tile."""
    return torch.kron(matrix, matrix).float()


_OF_MAPS = _values(_SIDE).inverse().T.contiguous()
_OF_FOUND = _values(_TILE)
#: A kernel turned by 180 degrees has at x the value of the kernel at 1/x, times the square of x.
_TURNED = [5, 3, 4, 1, 2, 0]
_SQUARES = torch.tensor([1.0, 2.0, 2.0, 0.5, 0.5, 1.0], dtype=torch.float64)[:, None]
_OF_KERNEL = _twice(_values(3))  # (36, 9)
#: What is done to the maps (36, 36), and to products (36, 16), there and back.
_THERE = _twice(_OF_MAPS), _twice(_OF_FOUND)
_BACK = _twice((_SQUARES * _OF_MAPS)[_TURNED]), _twice(_OF_FOUND[_TURNED])


def kernels(weight: Tensor) -> Tensor:
    """The weights (O, C, 3, 3) of a convolution as :func:`convolve` takes them, (36, O, C)."""
    return (_OF_KERNEL @ weight.permute(2, 3, 0, 1).reshape(9, -1)).view(36, *weight.shape[:2])


def convolve(
    inputs: Tensor, kernels: Tensor, bias: Tensor | None, padding: int, back: bool = False
) -> Tensor:
    """What a convolution with stride 1 gives, or the gradient of what it read.

    Args:
        inputs: (B, C, H, W), float32, channels last.
        kernels: from :func:`kernels`.
        bias: (O,) or None.
        padding: with zeros, 0 to 2.
        back: find the gradient: ``inputs`` is that of what the convolution gave, ``padding`` is 2
            less its own. Defaults to False.

    Returns:
        Tensor: (B, O, H + 2 * padding - 2, W + 2 * padding - 2), channels last.
    """
    of_maps, of_found = _BACK if back else _THERE
    factors = kernels if back else kernels.transpose(1, 2)
    maps = inputs.permute(0, 2, 3, 1)
    height, width = (side + 2 * padding - 2 for side in inputs.shape[2:])
    channels, outputs = factors.shape[1:]
    found = inputs.new_empty(len(maps), height, width, outputs)
    for images, rows in _blocks(found):
        tiles = _tiles(maps[images], rows, -(-width // _TILE), _SIDE, padding)
        products = torch.bmm((of_maps @ tiles.reshape(36, -1)).view(36, -1, channels), factors)
        values = (of_found.t() @ products.view(36, -1)).view(16, -1, outputs)
        if bias is not None:
            values += bias
        cells = values.view(_TILE, _TILE, *tiles.shape[2:5], outputs).permute(2, 3, 0, 4, 1, 5)
        block = cells.reshape(len(cells), len(rows) * _TILE, -1, outputs)
        place = found[images, rows.start * _TILE : rows.stop * _TILE]
        place.copy_(block[:, : place.size(1), :width])
    return found.permute(0, 3, 1, 2)


def weight_gradient(inputs: Tensor, grad: Tensor, padding: int) -> Tensor:
    """The gradient (O, C, 3, 3) of a convolution's weights.

    Args:
        inputs: (B, C, H, W), float32, channels last.
        grad: of what the convolution gave, (B, O, H + 2 * padding - 2, W + 2 * padding - 2),
            channels last.
        padding: of the convolution, with zeros, 0 to 2.
    """
    of_maps, of_found = _THERE
    maps, grads = inputs.permute(0, 2, 3, 1), grad.permute(0, 2, 3, 1)
    channels, outputs, columns = maps.size(3), grads.size(3), -(-grads.size(2) // _TILE)
    found = inputs.new_zeros(36, outputs, channels)
    for images, rows in _blocks(grads):
        tiles = _tiles(maps[images], rows, columns, _SIDE, padding).reshape(36, -1)
        of_tiles = _tiles(grads[images], rows, columns, _TILE, 0).reshape(16, -1)
        read = (of_maps @ tiles).view(36, -1, channels)
        found.baddbmm_((of_found @ of_tiles).view(36, -1, outputs).transpose(1, 2), read)
    weight = (_OF_KERNEL.t() @ found.view(36, -1)).view(3, 3, outputs, channels)
    return weight.permute(2, 3, 0, 1)


def _blocks(found: Tensor) -> Iterator[tuple[slice, range]]:
    """Images and rows of tiles, of what a convolution gives (B, H, W, O), for one time."""
    down, across = (-(-side // _TILE) for side in found.shape[1:3])
    images, rows = max(1, _TILES // (down * across)), max(1, _TILES // across)
    for image in range(0, len(found), images):
        for row in range(0, down, rows):
            yield slice(image, image + images), range(row, min(row + rows, down))


def _tiles(maps: Tensor, rows: range, columns: int, side: int, padding: int) -> Tensor:
    """Tiles of maps (B, H, W, C) with zeros around: (side, side, B, rows, columns, C), a view."""
    height, width, channels = maps.shape[1:]
    top, bottom = rows.start * _TILE - padding, (rows.stop - 1) * _TILE + side - padding
    right = (columns - 1) * _TILE + side - padding - width
    around = 0, 0, padding, right, max(-top, 0), max(bottom - height, 0)
    part = F.pad(maps[:, max(top, 0) : bottom], around)
    image, row, column, _ = part.stride()
    return part.as_strided(
        (side, side, len(part), len(rows), columns, channels),
        (row, column, image, _TILE * row, _TILE * column, 1),
    )


class WinogradConv2d(nn.Conv2d):
    """``Conv2d`` that takes this way, there and back, in float32 on a CPU.

    Results differ by rounding. The weights' other form is four times as large as they are; frozen
    weights keep theirs for the next call. For small maps, with channels in the usual layout, in
    other types and on other devices it is the same as ``Conv2d``.
    """

    _kernels: tuple[tuple[int, int], Tensor] | None = None

    @classmethod
    def suits(cls, module: nn.Module) -> bool:
        """Whether ``module`` is a convolution for which this is known to be faster."""
        return (
            type(module) is nn.Conv2d
            and module.kernel_size == (3, 3)
            and module.stride == module.dilation == (1, 1)
            and module.padding in ((0, 0), (1, 1), (2, 2))
            and module.groups == 1
            and module.padding_mode == 'zeros'
            and min(module.in_channels, module.out_channels) >= _CHANNELS
            and max(module.in_channels, module.out_channels) >= _MANY
        )

    def _conv_forward(self, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if not (
            inputs.device.type == 'cpu'
            and inputs.dim() == 4
            and inputs.dtype == weight.dtype == torch.float32
            and not torch.is_autocast_enabled('cpu')
            and not torch.compiler.is_compiling()
            and inputs[:, 0].numel() >= _CELLS
            and inputs.is_contiguous(memory_format=torch.channels_last)
        ):
            return super()._conv_forward(inputs, weight, bias)
        found: Tensor = _Convolution.apply(
            inputs, weight, bias, self._own_kernels(weight), int(self.padding[0])
        )
        return found

    def _own_kernels(self, weight: Tensor) -> Tensor:
        if weight.requires_grad:
            return kernels(weight.detach())
        made_of = weight.data_ptr(), weight._version
        if self._kernels is None or self._kernels[0] != made_of:
            self._kernels = made_of, kernels(weight)
        return self._kernels[1]


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        own_kernels: Tensor,
        padding: int,
    ) -> Tensor:
        ctx.save_for_backward(inputs, own_kernels)
        ctx.padding = padding
        return convolve(inputs, own_kernels, bias, padding)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        inputs, own_kernels = ctx.saved_tensors
        for_inputs, for_weight, for_bias = ctx.needs_input_grad[:3]
        grad = grad.contiguous(memory_format=torch.channels_last)
        return (
            convolve(grad, own_kernels, None, 2 - ctx.padding, True) if for_inputs else None,
            weight_gradient(inputs, grad, ctx.padding) if for_weight else None,
            grad.sum((0, 2, 3)) if for_bias else None,
            None,
            None,
        )
