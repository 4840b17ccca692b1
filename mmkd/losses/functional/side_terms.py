"""How far distributions over the sides of boxes are from each other."""

from torch import Tensor
from torch.nn import functional as F

from mmkd.geometry.multi_level_maps import upcast


def side_divergence(own: Tensor, other: Tensor, temperature: float) -> Tensor:
    """KL(teacher || student) of the softmax at a temperature, its square times, mean over sides.

    Args:
        own: (N, 4, n), the student's logits.
        other: (N, 4, n), the teacher's; gets no gradient.
        temperature: above 0.

    Returns:
        Tensor: (N,), at least float32.

    Example:
        >>> import torch
        >>> side_divergence(torch.zeros(1, 4, 8), torch.ones(1, 4, 8), 10.0)
        tensor([0.])
    """
    own, other = (upcast(bins) / temperature for bins in (own, other.detach()))
    divergence = F.kl_div(
        own.log_softmax(-1), other.to(own).log_softmax(-1), reduction='none', log_target=True
    )
    return divergence.sum(-1).mean(-1) * temperature**2
