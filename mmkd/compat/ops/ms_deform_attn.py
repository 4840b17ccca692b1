"""Stand-in for mmcv's multi-scale deformable attention."""

import torch
from torch import Tensor

from mmkd.geometry.multi_level_maps import upcast

SUPPLIED = ('ms_deform_attn_forward', 'ms_deform_attn_backward')


def plain_ms_deform_attn(
    shapes: Tensor, value: Tensor, locations: Tensor, weights: Tensor
) -> Tensor:
    """Multi-scale deformable attention by mmcv's own plain PyTorch form: (B, queries, dims)."""
    from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch

    value, locations, weights = map(upcast, (value, locations, weights))
    return multi_scale_deformable_attn_pytorch(value, shapes, locations, weights)


def ms_deform_attn_forward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    im2col_step: int,
) -> Tensor:
    """Multi-scale deformable attention: (B, queries, dims). See mmcv's module of that name."""
    output = plain_ms_deform_attn(
        value_spatial_shapes, value, sampling_locations, attention_weights
    )
    return output.to(value.dtype)


def ms_deform_attn_backward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    grad_output: Tensor,
    grad_value: Tensor,
    grad_sampling_loc: Tensor,
    grad_attn_weight: Tensor,
    im2col_step: int,
) -> None:
    """Fill the three gradients; the forward is run again, as nothing of it was kept."""
    inputs = [t.detach().requires_grad_() for t in (value, sampling_locations, attention_weights)]
    with torch.enable_grad():
        output = plain_ms_deform_attn(value_spatial_shapes, *inputs)
    grads = torch.autograd.grad(output, inputs, grad_output.to(output))
    for filled, grad in zip((grad_value, grad_sampling_loc, grad_attn_weight), grads, strict=True):
        filled.copy_(grad)
