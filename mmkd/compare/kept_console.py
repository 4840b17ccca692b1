"""A console whose lines are kept in a file."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.logging import MMLogger
from rich.console import Console
from rich.control import Control
from rich.markup import escape

_WIDTH = 120


class KeptConsole(Console):
    """What is printed goes to stdout and, without colours, to the end of a file.

    Args:
        path: the file; its folder is made when there is something to keep.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    @contextmanager
    def log_kept(self) -> Iterator[None]:
        """What is logged meanwhile, which a terminal shows, too, goes to the end of the file."""
        logger = MMLogger.get_current_instance()
        kept = _Kept(self)
        logger.addHandler(kept)
        try:
            yield
        finally:
            logger.removeHandler(kept)

    def print(self, *objects: Any, **options: Any) -> None:
        """As rich does; the moves of a progress bar are not kept."""
        super().print(*objects, **options)
        if objects and not isinstance(objects[0], Control):
            self.keep(*objects, **options)

    def keep(self, *objects: Any, **options: Any) -> None:
        """Into the file alone."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open('a', encoding='utf-8') as file:
            Console(file=file, width=_WIDTH, color_system=None).print(*objects, **options)


class _Kept(logging.Handler):
    """Keeps what is logged, without what mmengine logs for its own developers (DEBUG)."""

    def __init__(self, console: KeptConsole) -> None:
        super().__init__(logging.INFO)
        self.console = console

    def emit(self, record: logging.LogRecord) -> None:
        self.console.keep(escape(record.getMessage()))
