"""The distillation terms of a batch: which are active, what they give, and their factors."""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from mmkd.algorithms.term_values import scaled

if TYPE_CHECKING:
    from mmkd.algorithms.loss_watch import LossWatch


def active_losses(distiller: Any, factors: Mapping[str, float]) -> list[str]:
    """The losses whose factor and own ``loss_weight`` are not 0."""
    return [
        name
        for name, module in distiller.distill_losses.items()
        if factors.get(name, 1.0) != 0 and getattr(module, 'loss_weight', 1.0) != 0
    ]


def joint_factors(
    of_teachers: Mapping[str, float], scheduled: Mapping[str, float]
) -> dict[str, float]:
    """Of each loss that has a factor, that of its teacher times that of this iteration.

    >>> joint_factors(dict(loss_a=0.5), dict(loss_a=0.5, loss_b=2.0))
    {'loss_a': 0.25, 'loss_b': 2.0}
    """
    found = dict(of_teachers)
    for name, factor in scheduled.items():
        found[name] = found.get(name, 1.0) * factor
    return found


def let_overwrite(distiller: Any) -> None:
    """Let a loss that is alone in reading the teacher's records write its gradient over them.

    They are released with the step.
    """
    mappings = getattr(distiller, 'loss_forward_mappings', None) or {}
    readers = [
        (name, record)
        for name, mapping in mappings.items()
        for record in mapping.values()
        if not record['from_student']
    ]
    delivered = getattr(getattr(distiller, 'deliveries', None), 'deliveries', None)
    if len(readers) != 1 or delivered:
        return
    [(name, record)] = readers
    loss = distiller.distill_losses[name]
    connected = record.get('connector') or record.get('connector_idx') is not None
    if hasattr(loss, 'overwrites_teacher') and not connected:
        loss.overwrites_teacher = True


def distill_terms(
    distiller: Any,
    factors: Mapping[str, float],
    active: Collection[str],
    like: Tensor,
    watch: 'LossWatch',
) -> dict[str, Any]:
    """The terms of all losses, times their factors; those that are not ``active`` are 0.

    That 0 keeps the trained connectors in the graph: DistributedDataParallel waits for a gradient
    of every parameter.

    Args:
        like: a tensor on the device of the terms.
        watch: looks at what the losses are fed.
    """
    mappings = distiller.loss_forward_mappings
    distiller.loss_forward_mappings = {
        name: mapping for name, mapping in mappings.items() if name in active
    }
    try:
        terms = watch.compute(distiller) if active else {}
    finally:
        distiller.loss_forward_mappings = mappings
    terms = {name: scaled(term, factors.get(name, 1.0)) for name, term in terms.items()}
    idle = [name for name in mappings if name not in active]
    if idle:
        zero = like.new_zeros(())
        for parameter in distiller.parameters():
            if parameter.requires_grad:
                zero = zero + (parameter * 0).sum()
        terms.update(dict.fromkeys(idle, zero))
    return terms
