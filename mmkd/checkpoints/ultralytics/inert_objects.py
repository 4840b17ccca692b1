"""What a pickle's objects become when it is read without running anything."""

from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True, eq=False)
class Name:
    """A callable that the file named: text, looked up in a table, never imported."""

    text: str


@dataclass(eq=False)
class Bag:
    """What is left of an object: the name of its class and the state that the file gives it."""

    name: str
    args: tuple[Any, ...] = ()
    state: Any = None


@dataclass(frozen=True, eq=False)
class Refused:
    """What stands for an object that is not read, with the reason."""

    reason: str


@dataclass(frozen=True, eq=False)
class StorageRef:
    """A claim about a storage in the archive; checked when it is read."""

    key: str
    dtype: torch.dtype
    numel: int


@dataclass(frozen=True, eq=False)
class TensorRef:
    """A claim about a view of a storage; checked when it is read."""

    storage: StorageRef
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def describe(value: Any) -> str:
    """A value in a message: never the whole, since it is the file's, and may be endless."""
    if isinstance(value, str | int | float | None):
        return repr(value)[:80]
    if isinstance(value, Bag):
        return f'a {value.name}'
    return f'a {type(value).__name__}'
