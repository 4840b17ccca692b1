"""Strided convolutions with channels last on a CPU: the gradient of their weights."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_CHANNELS = 64  # at least, of what the convolution reads, and
_CELLS = 75 * 75  # of its maps: for less nothing is gained
_ROWS = 4096  # of unfolded maps at a time: so many fit the cache of a core


class StridedConv2d(nn.Conv2d):
    """``Conv2d`` that finds its weights' gradient by products of matrices.

    With channels last and a stride, oneDNN's own way to it runs at a third of its usual rate on a
    CPU: its reads lie a power of two apart and push each other out of the cache. Of YOLOv5s's
    training step that takes a twentieth. Everything else is the same, and where there is no
    gradient, in other layouts and types and on other devices, so is this.
    """

    @classmethod
    def suits(cls, module: nn.Module) -> bool:
        """Whether ``module`` is a convolution for which this is known to be faster."""
        return (
            type(module) is nn.Conv2d
            and module.groups == 1
            and module.in_channels >= _CHANNELS
            and min(module.stride) > 1
            and min(module.kernel_size) > 1
            and module.dilation == (1, 1)
            and module.padding_mode == 'zeros'
            and not isinstance(module.padding, str)
        )

    def _conv_forward(self, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if (
            torch.is_grad_enabled()
            and weight.requires_grad
            and inputs.device.type == 'cpu'
            and inputs.dim() == 4
            and inputs.dtype == weight.dtype == torch.float32
            and not torch.is_autocast_enabled('cpu')
            and inputs[0, 0].numel() >= _CELLS
            and inputs.is_contiguous(memory_format=torch.channels_last)
        ):
            found: Tensor = _Convolution.apply(inputs, weight, bias, self.stride, self.padding)
            return found
        return super()._conv_forward(inputs, weight, bias)


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: tuple[int, int],
        padding: tuple[int, int],
    ) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(inputs, weight, bias, stride, padding)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        inputs, weight = ctx.saved_tensors
        for_inputs, for_weight, for_bias = ctx.needs_input_grad[:3]
        grad = grad.contiguous(memory_format=torch.channels_last)
        others = torch.ops.aten.convolution_backward(
            grad,
            inputs,
            weight,
            [len(weight)] if for_bias else None,
            ctx.stride,
            ctx.padding,
            [1, 1],
            False,
            [0, 0],
            1,
            [for_inputs, False, for_bias],
        )
        of_weight = None
        if for_weight:
            size = weight.shape[2:]
            of_weight = weight_gradient(inputs, grad, size, ctx.stride, ctx.padding)
        return others[0], of_weight, others[2], None, None


def weight_gradient(
    inputs: Tensor,
    grad: Tensor,
    size: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
) -> Tensor:
    """The gradient (O, C, h, w) of a convolution's weights, channels last.

    Args:
        inputs: (B, C, H, W), channels last.
        grad: of what the convolution gave, (B, O, H', W'), channels last.
        size: h and w of the kernel.
        stride: of rows and columns.
        padding: of rows and columns, with zeros.
    """
    channels, (high, wide) = inputs.size(1), size
    height, width = grad.shape[2:]
    top, left = padding
    padded = F.pad(inputs.permute(0, 2, 3, 1), (0, 0, left, left, top, top))
    image, row, column, _ = padded.stride()
    # One row of the kernel after the other: its columns and channels lie side by side.
    windows = padded.as_strided(
        (len(inputs), height, width, high, wide * channels),
        (image, stride[0] * row, stride[1] * column, row, 1),
    )
    lines = max(1, _ROWS // width)
    found = grad.new_zeros(grad.size(1), high * wide * channels)
    for maps, grads in zip(windows, grad.permute(0, 2, 3, 1), strict=True):
        for one, of_one in zip(maps.split(lines), grads.split(lines), strict=True):
            found.addmm_(of_one.flatten(0, 1).t(), one.flatten(2).flatten(0, 1))
    return found.view(-1, high, wide, channels).permute(0, 3, 1, 2)
