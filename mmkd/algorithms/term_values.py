"""What a loss term is worth: a scalar, or the levels of one."""

from typing import Any

from torch import Tensor


def scaled(term: Any, factor: float) -> Any:
    """A term, or the levels of one, times ``factor``."""
    if isinstance(term, list | tuple):
        return [scaled(part, factor) for part in term]
    return term * factor


def reduced(value: Any) -> Tensor:
    """A term as a scalar, as ``BaseModel.parse_losses`` makes it."""
    return value.mean() if isinstance(value, Tensor) else sum(item.mean() for item in value)
