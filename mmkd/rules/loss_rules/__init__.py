"""What a loss may be fed, by what its recorders tap: one function for each rule.

Only what certainly teaches something else than meant is an error. Behind a connector that mmkd
does not know, a record may be anything, and nothing is said of it.
"""

from collections.abc import Callable
from typing import Any

from torch import nn

from mmkd.losses.log_keys import is_term
from mmkd.rules.loss_rules.feed import Feed, feeds_of
from mmkd.rules.loss_rules.heads import (
    check_classes,
    check_decoding,
    check_objectness,
    check_raw_coder,
    check_sides,
    check_units,
)
from mmkd.rules.loss_rules.rows import check_rows
from mmkd.rules.loss_rules.softmax import check_softmax

RULES: tuple[Callable[[nn.Module, list[Feed], Any], None], ...] = (
    check_rows,
    check_softmax,
    check_objectness,
    check_raw_coder,
    check_sides,
    check_classes,
    check_decoding,
    check_units,
)


def check_losses(distiller: nn.Module, student: nn.Module, teacher: nn.Module) -> None:
    """Check each loss that has a weight against what its mapping feeds it.

    Raises:
        ValueError: it would teach something else than meant, or nothing.
    """
    for name, loss in getattr(distiller, 'distill_losses', {}).items():
        if getattr(loss, 'loss_weight', 1.0) == 0:
            continue
        _check_name(name)
        feeds = list(feeds_of(name, distiller, student, teacher))
        for rule in RULES:
            rule(loss, feeds, distiller)


def _check_name(name: str) -> None:
    where = f'distill_losses.{name}'
    if not is_term(name):
        small = name.lower()
        raise ValueError(
            f'{where} is not back-propagated: a name must have "loss" in it, in small letters, '
            f'since mmengine adds up the terms by that, but got "{name}". '
            f'Rename it to {small if is_term(small) else f"loss_{small}"}, in '
            'loss_forward_mappings, too.'
        )
