"""Distillation weights that warm up, decay or stop."""

import math
from collections.abc import Sequence
from typing import Any

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import IterBasedTrainLoop, Runner

from mmkd.distributed.unwrapped import unwrapped


def schedule_factor(
    now: float,
    begin: float,
    end: float,
    start_factor: float,
    end_factor: float,
    curve: str = 'linear',
) -> float:
    """The factor at ``now``: ``start_factor`` up to ``begin``, ``end_factor`` from ``end`` on.

    Args:
        now: epochs or iterations that are done; ``begin`` and ``end`` likewise.
        curve: how it goes between the two: 'linear', or 'cosine', half a wave.

    Example:
        >>> [schedule_factor(epoch, 1, 5, 1.0, 0.0) for epoch in range(7)]
        [1.0, 1.0, 0.75, 0.5, 0.25, 0.0, 0.0]
    """
    if now >= end:
        return end_factor
    done = max(now - begin, 0) / (end - begin) if end > begin else 0.0
    if curve == 'cosine':
        done = (1 - math.cos(math.pi * done)) / 2
    return start_factor + (end_factor - start_factor) * done


@HOOKS.register_module()
class DistillWeightHook(Hook):
    """Multiply distillation losses by a factor that changes from ``begin`` to ``end``.

    The factors of several such hooks are multiplied. A factor depends on the epoch or iteration
    alone, so it is right after a resume. It is logged as ``distill.<name>_weight``; what is at 0
    is not computed, and with all at 0 the teacher is not run.

    Args:
        start_factor (float): up to ``begin``.
        end_factor (float): from ``end`` on. With ``begin == end`` it changes at once.
        end (int): in epochs or iterations, counted from 0.
        begin (int): Defaults to 0.
        by_epoch (bool): whether ``begin`` and ``end`` are epochs. Defaults to True.
        curve (str): 'linear' or 'cosine'. Defaults to 'linear'.
        losses (list[str], optional): names in ``distill_losses``. Defaults to None, all.

    Raises:
        ValueError: arguments out of range, a loss that the distiller does not have, epochs in a
            training that counts iterations.
    """

    def __init__(
        self,
        start_factor: float,
        end_factor: float,
        end: int,
        begin: int = 0,
        by_epoch: bool = True,
        curve: str = 'linear',
        losses: Sequence[str] | None = None,
    ) -> None:
        if not (0 <= begin <= end and 0 <= start_factor < math.inf and 0 <= end_factor < math.inf):
            raise ValueError(
                'DistillWeightHook needs 0 <= begin <= end and finite factors >= 0, but got '
                f'begin={begin}, end={end}, start_factor={start_factor}, end_factor={end_factor}.'
            )
        if curve not in ('linear', 'cosine'):
            raise ValueError(f"curve must be 'linear' or 'cosine', but got {curve!r}.")
        self.settings = (begin, end, start_factor, end_factor, curve)
        self.by_epoch = by_epoch
        self.losses = losses

    def before_train(self, runner: Runner) -> None:
        """Check the names and the unit."""
        known = _algorithm(runner).distiller.distill_losses
        unknown = [name for name in self.losses or () if name not in known]
        if unknown:
            raise ValueError(
                f'losses must name distill_losses ({", ".join(known)}), but got '
                f'{", ".join(unknown)}. Correct the names.'
            )
        if self.by_epoch and isinstance(runner.train_loop, IterBasedTrainLoop):
            raise ValueError(
                'by_epoch must be False in a training that counts iterations (IterBasedTrainLoop), '
                'but got True. Give begin and end in iterations.'
            )

    def before_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Set the factors of this iteration."""
        hooks = [hook for hook in runner.hooks if isinstance(hook, DistillWeightHook)]
        model = _algorithm(runner)
        model.distill_factors = {
            name: math.prod(hook._factor(runner, name) for hook in hooks)
            for name in model.distiller.distill_losses
        }

    def _factor(self, runner: Runner, name: str) -> float:
        if self.losses is not None and name not in self.losses:
            return 1.0
        return schedule_factor(runner.epoch if self.by_epoch else runner.iter, *self.settings)


def _algorithm(runner: Runner) -> Any:
    return unwrapped(runner.model)
