"""Stand-ins for mmcv's sigmoid and softmax focal loss."""

import torch
from torch import Tensor

from mmkd.geometry.multi_level_maps import upcast

SUPPLIED = (
    'sigmoid_focal_loss_forward',
    'sigmoid_focal_loss_backward',
    'softmax_focal_loss_forward',
    'softmax_focal_loss_backward',
)


# The compiled kernels clamp probabilities to C's FLT_MIN before the logarithm.
FLT_MIN = torch.finfo(torch.float32).tiny


def label_weight(weight: Tensor, target: Tensor) -> Tensor:
    """Weight of each target's class; 1 without weights and for background.

    For background, one past the last class, the compiled op reads past the end of ``weight``.
    """
    weight = torch.cat([weight, weight.new_ones(1)])
    return weight[target.clamp(max=len(weight) - 1)]


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Fill ``output`` (N, C) with the focal loss of logits ``input`` (N, C)."""
    p = upcast(input).sigmoid()
    hit = torch.arange(input.size(1), device=input.device) == target[:, None]
    loss = torch.where(
        hit,
        -alpha * (1 - p) ** gamma * p.clamp(min=FLT_MIN).log(),
        (alpha - 1) * p**gamma * (1 - p).clamp(min=FLT_MIN).log(),
    )
    output.copy_(loss * label_weight(weight, target)[:, None])


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Fill ``grad_input`` (N, C) with d loss / d ``input``, elementwise."""
    p = upcast(input).sigmoid()
    hit = torch.arange(input.size(1), device=input.device) == target[:, None]
    log_p, log_n = p.clamp(min=FLT_MIN).log(), (1 - p).clamp(min=FLT_MIN).log()
    grad = torch.where(
        hit,
        -alpha * (1 - p) ** gamma * (1 - p - gamma * p * log_p),
        (alpha - 1) * p**gamma * (gamma * (1 - p) * log_n - p),
    )
    grad_input.copy_(grad * label_weight(weight, target)[:, None])


def softmax_focal_loss_forward(
    softmax: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Fill ``output`` (N,) with the focal loss of probabilities ``softmax`` (N, C).

    A negative target is ignored: its loss is 0.
    """
    p = upcast(softmax).gather(1, target.clamp(min=0)[:, None])[:, 0]
    loss = -alpha * (1 - p) ** gamma * p.clamp(min=FLT_MIN).log()
    loss = loss * label_weight(weight, target.clamp(min=0))
    output.copy_(loss.where(target >= 0, 0))


def softmax_focal_loss_backward(
    softmax: Tensor,
    target: Tensor,
    weight: Tensor,
    buff: Tensor,
    grad_input: Tensor,
    gamma: float,
    alpha: float,
) -> None:
    """Fill ``grad_input`` (N, C) with d loss / d logits, and ``buff`` (N,) with its row factor."""
    softmax = upcast(softmax)
    label = target.clamp(min=0)
    p = softmax.gather(1, label[:, None])[:, 0]
    log_p = p.clamp(min=FLT_MIN).log()
    # d loss / d log p
    factor = alpha * (gamma * (1 - p) ** (gamma - 1) * p * log_p - (1 - p) ** gamma)
    factor = (factor * label_weight(weight, label)).where(target >= 0, 0)
    buff.copy_(factor)
    hit = torch.arange(softmax.size(1), device=softmax.device) == label[:, None]
    grad_input.copy_(factor[:, None] * (hit.to(softmax) - softmax))
