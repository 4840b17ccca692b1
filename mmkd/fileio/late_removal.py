"""Files that are removed when what takes their place is there."""

from collections.abc import Callable, Container
from typing import Any


class LateRemoval:
    """A file backend of mmengine that removes nothing before ``remove_now``."""

    def __init__(self, backend: Any) -> None:
        self.backend = backend
        self.removals: list[tuple[Callable[..., Any], str]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)

    def remove(self, path: str) -> None:
        """Remember a file to be removed."""
        self.removals.append((self.backend.remove, path))

    def rmtree(self, path: str) -> None:
        """Remember a folder to be removed."""
        self.removals.append((self.backend.rmtree, path))

    def remove_now(self, keep: Container[str | None] = ()) -> None:
        """Remove what was to be removed, but for what was written since."""
        for remove, path in self.removals:
            if path not in keep:
                remove(path)
