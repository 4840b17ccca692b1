"""A patch of torch's exporter, in force while a graph is made."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def constant_linspaces() -> Iterator[None]:
    """torch's exporter writes a ``linspace`` of one step as 0 / 0, which is NaN.

    Deformable attention makes its reference points by it, from the sizes of its levels, and a level
    may be of one row. Sizes are fixed in a graph, so that the points are constants.
    """
    library: Any = torch
    original = library.linspace

    def linspace(start: Any, end: Any, steps: Any, **kwargs: Any) -> torch.Tensor:
        return original(float(start), float(end), int(steps), **kwargs)

    library.linspace = linspace
    try:
        yield
    finally:
        library.linspace = original
