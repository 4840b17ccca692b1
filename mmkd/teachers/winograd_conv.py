"""Convolutions of 3 x 3 cells on a CPU with a quarter of the multiplications.

Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016, F(4x4, 3x3);
for the choice of points Barabasz et al., "Error Analysis and Improving the Accuracy of Winograd
Convolution for Deep Neural Networks", TOMS 2020.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_TILE = 4  # rows and columns of the maps that are found at once, from
_SIDE = 6  # rows and columns of the maps that are read
_POINTS = 0.0, 0.75, -0.75, 1.5, -1.5  # and infinity: with these products are rounded least
_TILES = 200  # at a time, so that what is between stays in the cache
_CHANNELS = 128  # at least, of what the convolution reads and gives, and
_CELLS = 400  # of its maps: for less nothing is gained


def _values(count: int) -> Tensor:
    """The first powers (6, count) of the points; at infinity the highest alone counts."""
    powers = torch.tensor(_POINTS, dtype=torch.float64)[:, None] ** torch.arange(count)
    return torch.cat([powers, torch.eye(count, dtype=torch.float64)[-1:]])


def _twice(matrix: Tensor) -> Tensor:
    """What a matrix does, done to both axes of a tile."""
    return torch.kron(matrix, matrix).float()


_OF_MAPS = _twice(_values(_SIDE).inverse().T.contiguous())  # (36, 36)
_OF_KERNEL = _twice(_values(3))  # (36, 9)
_OF_FOUND = _twice(_values(_TILE))  # (36, 16)


def kernels(weight: Tensor) -> Tensor:
    """The weights (O, C, 3, 3) of a convolution as :func:`convolve` takes them, (36, C, O)."""
    outputs, inputs = weight.shape[:2]
    return (_OF_KERNEL @ weight.permute(2, 3, 1, 0).reshape(9, -1)).view(-1, inputs, outputs)


def convolve(inputs: Tensor, kernels: Tensor, bias: Tensor | None, padding: int) -> Tensor:
    """What a convolution with stride 1 gives.

    Args:
        inputs: (B, C, H, W), float32, channels last.
        kernels: from :func:`kernels`.
        bias: (O,) or None.
        padding: with zeros, 0 to 2.

    Returns:
        Tensor: (B, O, H + 2 * padding - 2, W + 2 * padding - 2), channels last.
    """
    maps = inputs.permute(0, 2, 3, 1)
    height, width = (side + 2 * padding - 2 for side in inputs.shape[2:])
    channels, outputs = kernels.shape[1:]
    found = inputs.new_empty(len(maps), height, width, outputs)
    for images, rows in _blocks(found):
        tiles = _tiles(maps[images], rows, -(-width // _TILE), _SIDE, padding)
        products = torch.bmm((_OF_MAPS @ tiles.reshape(36, -1)).view(36, -1, channels), kernels)
        values = (_OF_FOUND.t() @ products.view(36, -1)).view(16, -1, outputs)
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
        padding: as of :func:`convolve`.
    """
    maps, grads = inputs.permute(0, 2, 3, 1), grad.permute(0, 2, 3, 1)
    channels, outputs, columns = maps.size(3), grads.size(3), -(-grads.size(2) // _TILE)
    found = inputs.new_zeros(36, channels, outputs)
    for images, rows in _blocks(grads):
        tiles = _tiles(maps[images], rows, columns, _SIDE, padding).reshape(36, -1)
        of_tiles = _tiles(grads[images], rows, columns, _TILE, 0).reshape(16, -1)
        read = (_OF_MAPS @ tiles).view(36, -1, channels)
        found.baddbmm_(read.transpose(1, 2), (_OF_FOUND @ of_tiles).view(36, -1, outputs))
    weight = (_OF_KERNEL.t() @ found.view(36, -1)).view(3, 3, channels, outputs)
    return weight.permute(3, 2, 0, 1)


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
    """A frozen ``Conv2d`` that takes this way where it is faster: in float32 on a CPU.

    Its result differs by rounding. The weights' other form is four times as large as they are, and
    is kept for the next call. With channels in the usual layout, in other types and on other
    devices it is the same as ``Conv2d``.
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
            and not module.weight.requires_grad
        )

    def _conv_forward(self, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if (
            inputs.device.type == 'cpu'
            and inputs.dim() == 4
            and inputs.dtype == weight.dtype == torch.float32
            and not torch.is_grad_enabled()
            and not torch.is_autocast_enabled('cpu')
            and not torch.compiler.is_compiling()
            and inputs[:, 0].numel() >= _CELLS
            and inputs.is_contiguous(memory_format=torch.channels_last)
        ):
            return convolve(inputs, self._own_kernels(weight), bias, int(self.padding[0]))
        return super()._conv_forward(inputs, weight, bias)

    def _own_kernels(self, weight: Tensor) -> Tensor:
        made_of = weight.data_ptr(), weight._version
        if self._kernels is None or self._kernels[0] != made_of:
            self._kernels = made_of, kernels(weight)
        return self._kernels[1]
