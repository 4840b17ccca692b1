"""A log that keeps quiet while a model is built to be looked at."""

from collections.abc import Iterator
from contextlib import contextmanager
from logging import ERROR

from mmengine.logging import MMLogger


@contextmanager
def quiet_log() -> Iterator[None]:
    """Within the block only errors are logged: that the models have no weights is meant."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
