"""Weighted sums over the cells of large class maps, without large temporaries (torch only)."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from mmkd.geometry.multi_level_maps import upcast

# Elements that are worked on at once: about what a core's cache holds; on a GPU, enough to be busy.
_BLOCK = {'cpu': 2**19}
_BLOCK_ELSEWHERE = 2**24


def cell_sum(
    logits_S: Tensor,
    logits_T: Tensor,
    weight: Tensor,
    kind: str,
    temperature: float = 1.0,
    overwrite: bool = False,
) -> Tensor:
    r"""Sum over cells of weight * distance of two class maps.

    ============ =============================================================================
    kind         distance of a cell, s and t its C logits
    ============ =============================================================================
    'l2'         sum_c (s - t)^2
    'l2_sigmoid' sum_c (sigmoid(s) - sigmoid(t))^2
    'kl'         tau^2 * sum_c P_T (log P_T - log P_S), P = softmax(. / tau)
    'bce'        tau^2 * sum_c BCEWithLogits(s / tau, sigmoid(t / tau))
    'bce_raw'    sum_c BCEWithLogits(s, t), which has no lower bound
    ============ =============================================================================

    Computed block by block, the gradient along with the value while a block is in the cache, so
    that beside the maps only the gradient is as large as a map; the weight is never expanded.

    Args:
        logits_S: (B, A, C, H, W).
        logits_T: (B, A, C, H, W); gets no gradient.
        weight: (B, A, H, W); gets no gradient.
        kind: see above.
        temperature: tau.
        overwrite: make the gradient in the memory of ``logits_T``, which nobody else may need; a
            map less. It is left alone where it is of another type or layout.

    Returns:
        Tensor: a scalar, at least float32.

    Example:
        >>> s, t = torch.ones(1, 1, 2, 1, 3), torch.zeros(1, 1, 2, 1, 3)
        >>> cell_sum(s, t, torch.tensor([[[[1.0, 0.5, 0.0]]]]), 'l2')
        tensor(3.)
    """
    return _CellSum.apply(logits_S, logits_T, weight, kind, temperature, overwrite)


def _distance(s: Tensor, t: Tensor, kind: str, tau: float) -> tuple[Tensor, Tensor]:
    """Distance of each cell, (n, H, W), and its derivative by s, (n, C, H, W); both new."""
    if kind == 'l2':
        slope = s - t
        return slope.square().sum(1), slope.mul_(2)
    if kind == 'l2_sigmoid':
        s = s.sigmoid()
        slope = s - t.sigmoid()
        distance = slope.square().sum(1)
        return distance, slope.mul_(2).mul_(s).mul_(1 - s)
    if kind == 'kl':
        log_S, log_T = F.log_softmax(s / tau, 1), F.log_softmax(t / tau, 1)
        P_T = log_T.exp()
        distance = log_T.sub_(log_S).mul_(P_T).sum(1).mul_(tau**2)
        return distance, log_S.exp_().sub_(P_T).mul_(tau)
    if kind == 'bce_raw':
        tau = 1.0
    else:
        t = (t / tau).sigmoid_()
    s = s / tau
    # BCEWithLogits(s, t) = softplus(s) - s t, stable for any s.
    distance = F.softplus(s).addcmul_(s, t, value=-1).sum(1).mul_(tau**2)
    return distance, s.sigmoid_().sub_(t).mul_(tau)


def _blocks(maps: Tensor) -> Iterator[slice]:
    """Slices of (B * A, C, H, W) of about a block each."""
    size = _BLOCK.get(maps.device.type, _BLOCK_ELSEWHERE) // max(1, maps[0].numel())
    for start in range(0, len(maps), max(1, size)):
        yield slice(start, start + max(1, size))


class _CellSum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        logits_S: Tensor,
        logits_T: Tensor,
        weight: Tensor,
        kind: str,
        tau: float,
        overwrite: bool,
    ) -> Tensor:
        ctx.kind, ctx.tau = kind, tau
        wanted = ctx.needs_input_grad[0]
        ctx.in_place = (
            overwrite
            and wanted
            and not logits_T.requires_grad
            and logits_T.is_contiguous()
            and logits_T.dtype == logits_S.dtype
        )
        if not ctx.in_place:
            ctx.save_for_backward(logits_S, logits_T, weight)
        out = logits_T if ctx.in_place else None
        value, ctx.grad = _run(logits_S, logits_T, weight, kind, tau, wanted, out)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.in_place and _graph_is_kept():
            return ctx.grad * grad, *[None] * 5
        # Given away, to be scaled in place; a second backward computes it anew.
        grad_S, ctx.grad = ctx.grad, None
        if grad_S is None:
            logits_S, logits_T, weight = ctx.saved_tensors
            grad_S = _run(logits_S, logits_T, weight, ctx.kind, ctx.tau, True)[1]
        return grad_S.mul_(grad), *[None] * 5


def _graph_is_kept() -> bool:
    """Whether a backward may follow this one (``retain_graph``)."""
    asked = getattr(torch._C._autograd, '_get_current_graph_task_keep_graph', None)
    return asked is None or asked()


def _run(
    logits_S: Tensor,
    logits_T: Tensor,
    weight: Tensor,
    kind: str,
    tau: float,
    slope: bool,
    out: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """The sum and, if wanted, its derivative by ``logits_S``, in ``out`` if that is given."""
    if not logits_S.numel():
        return upcast(logits_S).sum(), torch.zeros_like(logits_S)
    all_S, all_T, all_w = (x.flatten(0, 1) for x in (logits_S, logits_T, weight))
    grad = out
    if slope and out is None:
        grad = torch.empty_like(logits_S, memory_format=torch.contiguous_format)
    sums = []
    for block in _blocks(all_S):
        distance, derivative = _distance(upcast(all_S[block]), upcast(all_T[block]), kind, tau)
        sums.append(distance.mul_(all_w[block]).sum())
        if grad is not None:
            grad.flatten(0, 1)[block] = derivative.mul_(all_w[block].unsqueeze(1))
    return torch.stack(sums).sum(), grad
