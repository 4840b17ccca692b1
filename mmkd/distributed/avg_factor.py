"""What a loss divides by, so that it means the same on one GPU and on many."""

import torch
from mmengine.dist import all_reduce, get_world_size
from torch import Tensor


def across_ranks(total: Tensor | float, like: Tensor, minimum: float = 1.0) -> Tensor:
    """max(sum of ``total`` over ranks, ``minimum``) / number of ranks.

    Gradients are averaged over ranks; a loss that divides by this has the gradient of one
    process that saw all images. Every rank must call it, also one without objects.

    Args:
        total: this rank's count or sum of weights.
        like: a tensor whose device and dtype the result gets (at least float32).
        minimum: lower bound of the sum.

    Example:
        >>> across_ranks(0, torch.zeros(1)), across_ranks(6, torch.zeros(1))
        (tensor(1.), tensor(6.))
    """
    dtype = torch.promote_types(like.dtype, torch.float32)
    if isinstance(total, Tensor):
        total = total.detach().to(like.device, dtype, copy=True).reshape(())
    else:
        total = torch.full((), float(total), device=like.device, dtype=dtype)
    all_reduce(total)
    return total.clamp(min=minimum) / get_world_size()
