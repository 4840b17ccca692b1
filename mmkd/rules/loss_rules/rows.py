"""Rows are compared where they belong together."""

from logging import WARNING
from typing import Any

from mmengine.logging import print_log
from torch import nn

from mmkd.rules.loss_facts import compares_rows
from mmkd.rules.loss_rules.feed import Feed


def check_rows(loss: nn.Module, feeds: list[Feed], distiller: Any) -> None:
    """What each model draws for itself has no common order: row i is not row i."""
    sides = [[f for f in feeds if f.from_student is own and f.tap.drawn] for own in (True, False)]
    deliveries = getattr(getattr(distiller, 'deliveries', None), 'deliveries', {})
    if not all(sides) or deliveries:
        return  # a delivery may hand the teacher's rows to the student
    compares = compares_rows(loss)
    if compares is False:
        return
    own, other = sides[0][0], sides[1][0]
    where = f'distill_losses.{own.loss}'
    message = (
        f'{where} ({type(loss).__name__}) must compare rows that belong together, but '
        f'{own.recorder} ({own.tap.source}) and {other.recorder} ({other.tap.source}) hold '
        f'{own.tap.drawn}, which student and teacher each draw for themselves: row i of one is '
        'not row i of the other. Distil what both see of the same image: features of the backbone '
        'or neck, or the maps of a dense head.'
    )
    if compares:
        raise ValueError(message)
    print_log(
        f'{message} If the loss finds itself which rows belong together, matches_rows = True in '
        'its class says so.',
        'current',
        WARNING,
    )
