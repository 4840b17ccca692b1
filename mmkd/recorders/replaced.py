"""Another attribute of one module for a while."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def replaced(module: Any, name: str, value: Any) -> Iterator[None]:
    """Another attribute of this one module for a while."""
    before = module.__dict__.get(name)
    module.__dict__[name] = value
    try:
        yield
    finally:
        del module.__dict__[name]
        if before is not None:
            module.__dict__[name] = before
