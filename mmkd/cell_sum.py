"""Weighted sums over the cells of large class maps, without large temporaries (torch only)."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from mmkd.levels import upcast

# Elements that are worked on at once: about what a core's cache holds; on a GPU, enough to be busy.
_BLOCK = {'cpu': 2**19}
_BLOCK_ELSEWHERE = 2**24


def cell_sum(
    logits_S: Tensor, logits_T: Tensor, weight: Tensor, kind: str, temperature: float = 1.0
) -> Tensor:
    r"""Sum over cells of weight * distance of two class maps.

    ========= ================================================================================
    kind      distance of a cell, s and t its C logits
    ========= ================================================================================
    'l2'      sum_c (s - t)^2
    'kl'      tau^2 * sum_c P_T (log P_T - log P_S), P = softmax(. / tau)
    'bce'     tau^2 * sum_c BCEWithLogits(s / tau, sigmoid(t / tau))
    'bce_raw' sum_c BCEWithLogits(s, t), which has no lower bound
    ========= ================================================================================

    Computed block by block, forward and backward, so that beside the maps only the gradient is
    as large as a map; the weight is broadcast, never expanded.

    Args:
        logits_S: (B, A, C, H, W).
        logits_T: (B, A, C, H, W); gets no gradient.
        weight: (B, A, H, W); gets no gradient.
        kind: see above.
        temperature: tau.

    Returns:
        Tensor: a scalar, at least float32.

    Example:
        >>> s, t = torch.ones(1, 1, 2, 1, 3), torch.zeros(1, 1, 2, 1, 3)
        >>> cell_sum(s, t, torch.tensor([[[[1.0, 0.5, 0.0]]]]), 'l2')
        tensor(3.)
    """
    return _CellSum.apply(logits_S, logits_T, weight, kind, temperature)


def _distance(s: Tensor, t: Tensor, kind: str, tau: float) -> Tensor:
    """(n, a, C, H, W) -> (n, a, H, W)."""
    if kind == 'l2':
        return (s - t).square_().sum(2)
    if kind == 'kl':
        log_S, log_T = F.log_softmax(s / tau, 2), F.log_softmax(t / tau, 2)
        return log_T.exp().mul_(log_T - log_S).sum(2).mul_(tau**2)
    if kind == 'bce_raw':
        return F.binary_cross_entropy_with_logits(s, t, reduction='none').sum(2)
    target = (t / tau).sigmoid_()
    return F.binary_cross_entropy_with_logits(s / tau, target, reduction='none').sum(2) * tau**2


def _slope(s: Tensor, t: Tensor, kind: str, tau: float) -> Tensor:
    """The distance's derivative by s, (n, a, C, H, W), a new tensor."""
    if kind == 'l2':
        return (s - t).mul_(2)
    if kind == 'kl':
        return F.softmax(s / tau, 2).sub_(F.softmax(t / tau, 2)).mul_(tau)
    if kind == 'bce_raw':
        return s.sigmoid().sub_(t)
    return (s / tau).sigmoid_().sub_((t / tau).sigmoid_()).mul_(tau)


def _blocks(maps: Tensor) -> Iterator[tuple[slice, slice]]:
    """Slices of images and anchors of about a block each."""
    batch, anchors = maps.shape[:2]
    size = max(1, _BLOCK.get(maps.device.type, _BLOCK_ELSEWHERE) // max(1, maps.shape[2:].numel()))
    images, width = max(1, size // anchors), min(size, anchors)
    for i in range(0, batch, images):
        for a in range(0, anchors, width):
            yield slice(i, i + images), slice(a, a + width)


class _CellSum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, logits_S: Tensor, logits_T: Tensor, weight: Tensor, kind: str, tau: float
    ) -> Tensor:
        ctx.save_for_backward(logits_S, logits_T, weight)
        ctx.kind, ctx.tau = kind, tau
        sums = [
            _distance(upcast(logits_S[block]), upcast(logits_T[block]), kind, tau)
            .mul_(weight[block])
            .sum()
            for block in _blocks(logits_S)
        ]
        return torch.stack(sums).sum() if sums else upcast(logits_S).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        logits_S, logits_T, weight = ctx.saved_tensors
        grad_S = torch.empty_like(logits_S)
        for block in _blocks(logits_S):
            slope = _slope(upcast(logits_S[block]), upcast(logits_T[block]), ctx.kind, ctx.tau)
            grad_S[block] = slope.mul_((weight[block] * grad).unsqueeze(2))
        return grad_S, None, None, None, None
