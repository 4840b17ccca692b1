"""What a step logs of its distillation terms beside their values, and what that means."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from mmkd.algorithms.gradient_balance import GradientBalance
from mmkd.losses.log_keys import DISTILL, WEIGHT, statistic_key
from mmkd.losses.statistic import Statistic


def statistics_of(
    distiller: Any,
    active: Iterable[str],
    factors: Mapping[str, float],
    balance: GradientBalance | None,
) -> dict[str, Tensor]:
    """By key without ``distill.``: the ``logs`` of the active losses, factors and balance.

    Args:
        distiller: whose losses have been computed.
        active: the losses that were.
        factors: of :class:`DistillWeightHook`, by loss.
        balance: the pair's, if it has one.
    """
    logs: list[tuple[str, Mapping[str, Any]]] = [
        (name, getattr(distiller.distill_losses[name], 'logs', {})) for name in active
    ]
    logs += [(name, {WEIGHT: torch.tensor(factor)}) for name, factor in factors.items()]
    logs += [(name, balance.logs(name)) for name in balance.shares] if balance else []
    return {statistic_key(name, part): value for name, log in logs for part, value in log.items()}


def meanings(distiller: Any, balance: GradientBalance | None) -> dict[str, Statistic]:
    """By log key what a statistic means, as far as the losses and the balance say it."""
    return dict(_meanings(distiller, balance))


def _meanings(distiller: Any, balance: GradientBalance | None) -> Iterator[tuple[str, Statistic]]:
    sources = [*distiller.distill_losses.items()]
    sources += [(name, balance) for name in balance.shares] if balance else []
    for name, source in sources:
        said = getattr(source, 'statistics', None)  # of another author it may be anything
        for part, statistic in said.items() if isinstance(said, Mapping) else ():
            if isinstance(statistic, Statistic):
                yield f'{DISTILL}{statistic_key(name, part)}', statistic
