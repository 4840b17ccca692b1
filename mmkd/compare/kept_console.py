"""A console whose lines are kept in a file."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.control import Control

_WIDTH = 120


class KeptConsole(Console):
    """What is printed goes to stdout and, without colours, to the end of a file.

    Args:
        path: the file; its folder is made when there is something to keep.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def print(self, *objects: Any, **options: Any) -> None:
        """As rich does; the moves of a progress bar are not kept."""
        super().print(*objects, **options)
        if objects and not isinstance(objects[0], Control):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open('a', encoding='utf-8') as file:
                Console(file=file, width=_WIDTH, color_system=None).print(*objects, **options)
