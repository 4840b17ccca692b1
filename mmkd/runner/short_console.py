"""What a terminal shows of a run's log: what a reader acts on, not what is kept for later."""

import logging
from pathlib import PurePath
from typing import Any

from mmengine.logging import MMLogger
from mmengine.runner import Runner

#: More lines of one message of mmengine go to the file alone.
MOST_LINES = 12


class ShortRunner(Runner):
    """mmengine's runner, of whose log a terminal shows what fits a screen."""

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """Build the log."""
        logger = super().build_logger(*args, **kwargs)
        shorten_console(logger)
        return logger


def shorten_console(logger: logging.Logger) -> None:
    """Let a terminal show no dump of environment, config, hooks and initialisation.

    mmengine writes some 500 lines of them before the first step. They stay in the log file; a
    logger without one shows all.
    """
    if not any(isinstance(handler, logging.FileHandler) for handler in logger.handlers):
        return
    for handler in logger.handlers:
        if type(handler) is logging.StreamHandler and _is_news not in handler.filters:
            handler.addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    from_mmengine = 'mmengine' in PurePath(record.pathname).parts
    if not from_mmengine or record.levelno > logging.INFO:
        return True
    dump = record.funcName == '_dump_init_info'
    return not dump and record.getMessage().count('\n') <= MOST_LINES
