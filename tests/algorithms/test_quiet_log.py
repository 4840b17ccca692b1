"""Only errors are logged while a model is built to be looked at."""

import logging

import pytest
from mmengine.logging import MMLogger

from mmkd.algorithms.quiet_log import quiet_log


def test_only_errors_are_logged_and_the_level_comes_back():
    logger = MMLogger.get_current_instance()
    level = logger.level
    with pytest.raises(KeyError), quiet_log():
        assert not logger.isEnabledFor(logging.WARNING) and logger.isEnabledFor(logging.ERROR)
        raise KeyError
    assert logger.level == level
