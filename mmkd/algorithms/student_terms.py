"""The student's own terms, weighted by name."""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from mmkd.algorithms.term_values import scaled


class StudentTerms:
    """Weighs the terms of a student's own loss.

    Args:
        weights (Mapping, optional): factors by the name of a term. Terms that are not named count
            once. Defaults to None.
    """

    def __init__(self, weights: Mapping[str, float] | None = None) -> None:
        self.weights = dict(weights or {})
        self._known: set[str] = set()  # all terms so far

    def __call__(self, student: nn.Module, losses: Mapping[str, Any]) -> dict[str, Any]:
        """The terms of a batch, weighted.

        Raises:
            ValueError: a weight names no term of the student.
        """
        self._known.update(losses)
        if set(self.weights) - self._known:
            self._known.update(_late_terms(student))
        unknown = sorted(set(self.weights) - self._known)
        if unknown:
            raise ValueError(
                f'student_loss_weights must name terms of the student ({", ".join(losses)}), '
                f'but got {", ".join(unknown)}. Correct the names.'
            )
        return {
            name: scaled(value, self.weights[name]) if name in self.weights else value
            for name, value in losses.items()
        }


def _late_terms(student: nn.Module) -> Iterator[str]:
    """Terms that a hook will switch on, as that of YOLOX's ``use_l1``: ``loss_l1``."""
    for module in student.modules():
        for switch, on in vars(module).items():
            term = f'loss_{switch.removeprefix("use_")}'
            if switch.startswith('use_') and on is False and hasattr(module, term):
                yield term
