"""Patches of mmdet's optimizer constructors."""

import functools
from collections.abc import Iterator
from typing import Any

from torch import nn

from mmkd.checkpoints.state_keys import STUDENT_PREFIX


def decay_the_students_layers() -> None:
    """mmdet tells the layers of a backbone by names from "backbone." on: in a pair none has such.

    Each would have the whole learning rate, in silence. The constructor is shown the names that
    the student's parameters have in the baseline.
    """
    from mmdet.engine.optimizers import LearningRateDecayOptimizerConstructor as Constructor

    original = Constructor.add_params

    @functools.wraps(original)
    def add_params(
        self: Any, params: list[dict[str, Any]], module: nn.Module, **kwargs: Any
    ) -> None:
        is_pair = isinstance(getattr(module, 'architecture', None), nn.Module)
        original(self, params, _StudentsNames(module) if is_pair else module, **kwargs)

    Constructor.add_params = add_params


class _StudentsNames:
    """A pair whose student's parameters are named as in the baseline."""

    def __init__(self, pair: Any) -> None:
        self.pair, self.backbone = pair, pair.architecture.backbone

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        for name, parameter in self.pair.named_parameters():
            yield name.removeprefix(STUDENT_PREFIX), parameter
