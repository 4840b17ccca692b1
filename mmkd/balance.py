"""Distillation weights that need no tuning: each term's gradient kept at a share of the task's."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from mmengine.dist import all_reduce
from torch import Tensor, nn

from mmkd.distill_weights import scaled

# Gradients of half precision maps are lost below 6e-8; a power of two changes no other digit.
_SCALE = 2.0**10


class GradientBalance(nn.Module):
    """Scale distillation terms so that each pulls at the student with a set share of the task.

    Every ``interval`` steps the gradients of the student's own losses together, g, and of each
    term, g_k, are taken at all trainable parameters of the student, averaged over processes; their
    norms are smoothed. The term is then multiplied by ``share * |g| / |g_k|``, so a
    ``loss_weight`` no longer matters, other than 0. Factors of :class:`DistillWeightHook` come on
    top. A measurement costs one backward pass per term and one for the task. The state is part of
    the checkpoint. After GradNorm (Chen et al., ICML 2018), which learns such factors instead.

    Args:
        names (Collection[str]): The distillation losses.
        shares (float | Mapping[str, float]): Of the task's gradient norm: for all terms, or by
            name; a term that is not named keeps its own weight.
        interval (int): Steps between measurements, the first of which is a term's first step;
            until one finds a gradient, the term counts nothing. Defaults to 50.
        momentum (float): Of the smoothing, the share of the old norm; 0 takes each measurement as
            it is. Defaults to 0.5.
        max_factor (float): No term is multiplied by more, however small its gradient becomes.
            Defaults to 1000.

    Raises:
        ValueError: an unknown loss, or an argument out of range.
    """

    def __init__(
        self,
        names: Collection[str],
        shares: float | Mapping[str, float],
        interval: int = 50,
        momentum: float = 0.5,
        max_factor: float = 1000.0,
    ) -> None:
        super().__init__()
        named = shares if isinstance(shares, Mapping) else dict.fromkeys(names, shares)
        unknown = sorted(set(named) - set(names))
        if unknown:
            raise ValueError(
                f'balance.shares must name distill_losses ({", ".join(names)}), but got '
                f'{", ".join(unknown)}. Correct the names.'
            )
        numbers = [*named.values(), max_factor]
        if not all(_is_number(value) and 0 < value < math.inf for value in numbers):
            raise ValueError(
                'balance needs finite shares and max_factor above 0, but got '
                f'shares={shares}, max_factor={max_factor}. loss_weight=0 turns a term off.'
            )
        if not (isinstance(interval, int) and interval >= 1 and 0 <= momentum < 1):
            raise ValueError(
                'balance needs a whole interval >= 1 and 0 <= momentum < 1, but got '
                f'interval={interval}, momentum={momentum}.'
            )
        self.shares = {name: float(share) for name, share in named.items()}
        self.interval, self.momentum, self.max_factor = interval, momentum, max_factor
        self.step: Tensor
        self.norms: Tensor
        self.reached: Tensor
        self.register_buffer('step', torch.zeros((), dtype=torch.long))
        #: Smoothed gradient norms: the task's, then each term's before its factor. 0: none was
        #: found yet; below 0: not looked for yet.
        self.register_buffer('norms', torch.full((1 + len(self.shares),), -1.0))
        #: Each term's share when it was last measured, with the factor it had until then.
        self.register_buffer('reached', torch.zeros(len(self.shares)))

    def forward(
        self,
        task: Mapping[str, Any],
        terms: Mapping[str, Any],
        schedule: Mapping[str, float],
        parameters: Sequence[Tensor],
    ) -> dict[str, Any]:
        """The terms times their factors.

        Args:
            task: the student's own losses; what has no "loss" in its name is no loss.
            terms: the distillation terms, scalars or lists of them, times ``schedule``.
            schedule: factors of :class:`DistillWeightHook`; 1 where there is none. A term at 0 is
                left alone.
            parameters: the student's trainable parameters.
        """
        active = [name for name in self.shares if name in terms and schedule.get(name, 1.0) != 0]
        if self.training and torch.is_grad_enabled() and active and parameters:
            if self.step % self.interval == 0 or any(self._norm(name) < 0 for name in active):
                self._measure(task, terms, schedule, active, parameters)
            self.step += 1
        return {
            name: scaled(term, self.factor(name)) if name in active else term
            for name, term in terms.items()
        }

    def factor(self, name: str) -> float:
        """What a term is multiplied by now."""
        task, norm = self.norms[0].item(), self._norm(name)
        if task <= 0 or norm <= 0:
            return 0.0
        return min(self.shares[name] * task / norm, self.max_factor)

    def statistics(self) -> dict[str, Tensor]:
        """For the log: ``<name>_balance``, the factor, and ``<name>_share``, as last measured."""
        found = {}
        for index, name in enumerate(self.shares):
            found[f'{name}_balance'] = torch.tensor(self.factor(name))
            found[f'{name}_share'] = self.reached[index].clone()
        return found

    def _measure(
        self,
        task: Mapping[str, Any],
        terms: Mapping[str, Any],
        schedule: Mapping[str, float],
        active: Collection[str],
        parameters: Sequence[Tensor],
    ) -> None:
        whole = sum(reduced(value) for name, value in task.items() if 'loss' in name)
        task_norm = _norm_over_ranks(whole, parameters)
        fresh = torch.full_like(self.norms, -1.0)
        fresh[0] = task_norm
        for index, name in enumerate(self.shares):
            if name in active:
                norm = _norm_over_ranks(reduced(terms[name]), parameters)
                fresh[1 + index] = norm / schedule.get(name, 1.0)
                if 0 < task_norm < math.inf and norm < math.inf:
                    self.reached[index] = fresh[1 + index] * self.factor(name) / task_norm
        # A batch without objects has no gradient, one that overflows no norm: neither counts.
        counts = torch.isfinite(fresh) & (fresh > 0)
        smooth = torch.where(self.norms > 0, torch.lerp(fresh, self.norms, self.momentum), fresh)
        looked = torch.where(fresh == -1, self.norms, self.norms.clamp(min=0))
        self.norms.copy_(torch.where(counts, smooth, looked))

    def _norm(self, name: str) -> float:
        return self.norms[1 + list(self.shares).index(name)].item()


def reduced(value: Any) -> Tensor:
    """A term as a scalar, as ``BaseModel.parse_losses`` makes it."""
    return value.mean() if isinstance(value, Tensor) else sum(item.mean() for item in value)


def flat_gradient(value: Any, parameters: Sequence[Tensor]) -> Tensor:
    """The gradient of a scalar at the parameters, in float32; the graph is kept."""
    found: Sequence[Tensor | None] = [None] * len(parameters)
    if isinstance(value, Tensor) and value.requires_grad:
        found = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
    return torch.cat(
        [
            (torch.zeros_like(p) if grad is None else grad).float().flatten()
            for p, grad in zip(parameters, found, strict=True)
        ]
    )


def _norm_over_ranks(value: Any, parameters: Sequence[Tensor]) -> float:
    """Norm of the gradient that the optimizer gets: the mean over processes."""
    gradient = flat_gradient(value * _SCALE, parameters)
    all_reduce(gradient, 'mean')
    return gradient.norm().item() / _SCALE


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
