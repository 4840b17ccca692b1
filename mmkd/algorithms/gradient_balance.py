"""Distillation weights that need no tuning: each term's gradient kept at a share of the task's."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from mmengine.dist import all_reduce
from torch import Tensor, nn

from mmkd.algorithms.term_values import reduced, scaled
from mmkd.losses.log_keys import BALANCE, SHARE, is_term
from mmkd.losses.statistic import Statistic

# Gradients of half precision maps are lost below 6e-8; a power of two changes no other digit.
GRADIENT_SCALE = 2.0**10


class GradientBalance(nn.Module):
    """Scale distillation terms so that each pulls at the student with a set share of the task.

    Every ``interval`` steps, and before that at steps 1, 2, 4, 8 and so on, the gradients of the
    student's own losses together, g, and of each term, g_k, are taken at all trainable parameters
    of the student, averaged over processes; their norms are smoothed (their logarithms, since at
    first they may fall several times within 50 steps). The term is then multiplied by
    ``share * |g| / |g_k|``, so a ``loss_weight`` no longer matters, other than 0. Factors of
    :class:`DistillWeightHook` come on top. A measurement costs one backward pass per term and one
    for the task. The state is part of the checkpoint. After GradNorm (Chen et al., ICML 2018),
    which learns such factors instead.

    Args:
        names (Collection[str]): The distillation losses.
        shares (float | Mapping[str, float]): Of the task's gradient norm: for all terms, or by
            name; a term that is not named keeps its own weight.
        interval (int): Steps between measurements, the first of which is a term's first step;
            until one finds a gradient, the term counts nothing. Defaults to 50.
        momentum (float): Of the smoothing, the share of the old logarithm; 0 takes each
            measurement as it is. Defaults to 0.5.
        max_factor (float): No term is multiplied by more, however small its gradient becomes.
            Defaults to 1000.

    Raises:
        ValueError: an unknown loss, or an argument out of range.
    """

    statistics = {
        BALANCE: Statistic('what the term is multiplied by to reach its share'),
        SHARE: Statistic("share of the task's gradient norm, when last measured"),
    }

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
        # Numbers, not buffers: on a GPU each look at a buffer would wait for the device.
        self.step = 0
        #: Smoothed gradient norms: the task's (''), each term's before its factor. 0: none was
        #: found yet; below 0: not looked for yet.
        self.norms = dict.fromkeys(['', *self.shares], -1.0)
        #: Each term's share when it was last measured, with the factor it had until then; below 0
        #: before it had one.
        self.reached = dict.fromkeys(self.shares, -1.0)

    def get_extra_state(self) -> Tensor:
        """What a checkpoint keeps."""
        numbers = [self.step, *self.norms.values(), *self.reached.values()]
        return torch.tensor(numbers, dtype=torch.float64)

    def set_extra_state(self, state: Tensor) -> None:
        """Go on from a checkpoint.

        Raises:
            ValueError: the checkpoint balanced other terms.
        """
        step, *numbers = state.tolist()
        if len(numbers) != len(self.norms) + len(self.reached):
            raise ValueError(
                f'balance.shares must name as many terms as in the checkpoint to resume '
                f'({len(numbers) // 2}), but names {", ".join(self.shares)}. Correct it.'
            )
        self.step = int(step)
        self.norms = dict(zip(self.norms, numbers, strict=False))
        self.reached = dict(zip(self.reached, numbers[len(self.norms) :], strict=True))

    def forward(
        self,
        task: Mapping[str, Any],
        terms: Mapping[str, Any],
        schedule: Mapping[str, float],
        parameters: Sequence[Tensor],
    ) -> dict[str, Any]:
        """The terms times their factors.

        Args:
            task: the student's own losses; what is no term (:func:`is_term`) is left out.
            terms: the distillation terms, scalars or lists of them, times ``schedule``.
            schedule: factors of :class:`DistillWeightHook`; 1 where there is none. A term at 0 is
                left alone.
            parameters: the student's trainable parameters.
        """
        active = [name for name in self.shares if name in terms and schedule.get(name, 1.0) != 0]
        if self.training and torch.is_grad_enabled() and active and parameters:
            if self._is_due() or any(self.norms[name] < 0 for name in active):
                self._measure(task, terms, schedule, active, parameters)
            self.step += 1
        return {
            name: scaled(term, self.factor(name)) if name in active else term
            for name, term in terms.items()
        }

    def factor(self, name: str) -> float:
        """What a term is multiplied by now."""
        task, norm = self.norms[''], self.norms[name]
        if task <= 0 or norm <= 0:
            return 0.0
        return min(self.shares[name] * task / norm, self.max_factor)

    def _is_due(self) -> bool:
        power_of_two = self.step & (self.step - 1) == 0
        return self.step % self.interval == 0 or (self.step < self.interval and power_of_two)

    def logs(self, name: str) -> dict[str, Tensor]:
        """What the log gets of a term, see ``statistics``."""
        logs = {BALANCE: torch.tensor(self.factor(name))}
        if self.reached[name] >= 0:
            logs[SHARE] = torch.tensor(self.reached[name])
        return logs

    def _measure(
        self,
        task: Mapping[str, Any],
        terms: Mapping[str, Any],
        schedule: Mapping[str, float],
        active: Collection[str],
        parameters: Sequence[Tensor],
    ) -> None:
        whole = sum(reduced(value) for name, value in task.items() if is_term(name))
        fresh = {'': _norm_over_ranks(whole, parameters)}
        for name in active:
            norm = _norm_over_ranks(reduced(terms[name]), parameters)
            fresh[name] = norm / schedule.get(name, 1.0)
            had_factor = self.norms[name] > 0 or norm == 0
            if _counts(fresh['']) and math.isfinite(norm) and had_factor:
                self.reached[name] = fresh[name] * self.factor(name) / fresh['']
        for name, norm in fresh.items():
            old = self.norms[name]
            if not _counts(norm):
                self.norms[name] = max(old, 0.0)
            elif old > 0:
                self.norms[name] = old**self.momentum * norm ** (1 - self.momentum)
            else:
                self.norms[name] = norm


def _counts(norm: float) -> bool:
    """A batch without objects has no gradient, one that overflows no norm."""
    return 0 < norm < math.inf


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
    gradient = flat_gradient(value * GRADIENT_SCALE, parameters)
    all_reduce(gradient, 'mean')
    return gradient.norm().item() / GRADIENT_SCALE


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def check_balanced(own_losses: bool) -> None:
    """Check that there is something to balance distillation by.

    Raises:
        ValueError: the student's own losses are left out.
    """
    if not own_losses:
        raise ValueError(
            "balance measures distillation terms by the student's own losses, but "
            'calculate_student_loss=False leaves these out. Drop one of them.'
        )
