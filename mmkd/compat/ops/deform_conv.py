"""Stand-ins for mmcv's compiled deformable convolutions.

As in :mod:`mmkd.compat.ops`, each function has the name, the arguments and the results of its
compiled counterpart, and fills what it is given to fill.
"""

from collections.abc import Sequence

from torch import Tensor

from mmkd.compat.ops.deformable import Geometry, forward, gradients
from mmkd.geometry.multi_level_maps import upcast

SUPPLIED = (
    'deform_conv_forward',
    'deform_conv_backward_input',
    'deform_conv_backward_parameters',
    'modulated_deform_conv_forward',
    'modulated_deform_conv_backward',
)


def deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    output: Tensor,
    columns: Tensor,
    ones: Tensor,
    kW: int,
    kH: int,
    dW: int,
    dH: int,
    padW: int,
    padH: int,
    dilationW: int,
    dilationH: int,
    group: int,
    deformable_group: int,
    im2col_step: int,
) -> None:
    """Fill ``output`` (B, O, Ho, Wo)."""
    geometry = Geometry((dH, dW), (padH, padW), (dilationH, dilationW), deformable_group)
    output.copy_(forward(input, offset, weight, None, geometry))


def deform_conv_backward_input(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_input: Tensor,
    grad_offset: Tensor,
    weight: Tensor,
    columns: Tensor,
    kW: int,
    kH: int,
    dW: int,
    dH: int,
    padW: int,
    padH: int,
    dilationW: int,
    dilationH: int,
    group: int,
    deformable_group: int,
    im2col_step: int,
) -> None:
    """Fill ``grad_input`` and ``grad_offset``."""
    geometry = Geometry((dH, dW), (padH, padW), (dilationH, dilationW), deformable_group)
    of_input, of_offset = gradients(
        ('input', 'offset'), grad_output, input, offset, weight, None, geometry
    )
    grad_input.copy_(of_input)
    grad_offset.copy_(of_offset)


def deform_conv_backward_parameters(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_weight: Tensor,
    columns: Tensor,
    ones: Tensor,
    kW: int,
    kH: int,
    dW: int,
    dH: int,
    padW: int,
    padH: int,
    dilationW: int,
    dilationH: int,
    group: int,
    deformable_group: int,
    scale: float,
    im2col_step: int,
) -> None:
    """Add ``scale`` times the gradient to ``grad_weight``."""
    geometry = Geometry((dH, dW), (padH, padW), (dilationH, dilationW), deformable_group)
    (of_weight,) = gradients(('weight',), grad_output, input, offset, grad_weight, None, geometry)
    grad_weight += (scale * of_weight).to(grad_weight)


def as_read(values: Tensor, size: Sequence[int]) -> Tensor:
    """Offsets or masks (B, N, H, W) as the compiled op reads them: an image's numbers in a row.

    They are taken to have the output's size. DyHead gives those of a larger level, of which the
    first are read, each for another place than it was made for; so its weights were trained.

    Args:
        values: (B, N, H, W).
        size: (Ho, Wo) of the output.

    Returns:
        Tensor: (B, N, Ho, Wo).

    Raises:
        ValueError: there are too few numbers.

    Example:
        >>> import torch
        >>> as_read(torch.arange(8).view(1, 2, 2, 2), (1, 2)).tolist()
        [[[[0, 1]], [[2, 3]]]]
    """
    height, width = size
    wanted = values.size(1) * height * width
    if tuple(values.shape[-2:]) == (height, width):
        return values
    if values[0].numel() < wanted:
        raise ValueError(
            f'offsets and masks of a deformable convolution must have the size of its output, '
            f'{(height, width)}, or a larger one, but got {tuple(values.shape[-2:])}. Correct '
            'stride or padding.'
        )
    return values.flatten(1)[:, :wanted].view(-1, values.size(1), height, width)


def modulated_deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    output: Tensor,
    columns: Tensor,
    kernel_h: int,
    kernel_w: int,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    group: int,
    deformable_group: int,
    with_bias: bool,
) -> None:
    """Fill ``output`` (B, O, Ho, Wo)."""
    geometry = Geometry(
        (stride_h, stride_w), (pad_h, pad_w), (dilation_h, dilation_w), deformable_group
    )
    size = output.shape[-2:]
    result = forward(input, as_read(offset, size), weight, as_read(mask, size), geometry)
    output.copy_(result + bias.to(result).view(-1, 1, 1) if with_bias else result)


def modulated_deform_conv_backward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    columns: Tensor,
    grad_input: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    grad_offset: Tensor,
    grad_mask: Tensor,
    grad_output: Tensor,
    kernel_h: int,
    kernel_w: int,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    group: int,
    deformable_group: int,
    with_bias: bool,
) -> None:
    """Fill the gradients; the forward is run again, as nothing of it was kept."""
    geometry = Geometry(
        (stride_h, stride_w), (pad_h, pad_w), (dilation_h, dilation_w), deformable_group
    )
    size = grad_output.shape[-2:]
    found = gradients(
        ('input', 'weight', 'offset', 'mask'),
        grad_output,
        input,
        as_read(offset, size),
        weight,
        as_read(mask, size),
        geometry,
    )
    grad_input.copy_(found[0])
    grad_weight.copy_(found[1])
    for filled, grad in zip((grad_offset, grad_mask), found[2:], strict=True):
        filled.view(len(filled), -1)[:, : grad[0].numel()] = grad.flatten(1).to(filled)
    if with_bias:
        grad_bias.copy_(upcast(grad_output).sum((0, 2, 3)))
