"""Only errors are logged while a model is built to be looked at."""

import logging

import pytest
from mmengine.logging import MMLogger, print_log

from mmkd.algorithms.quiet_log import quiet_log


def test_only_errors_are_logged_and_the_level_comes_back(capsys):
    logger = MMLogger.get_current_instance()
    level = logger.level
    with pytest.raises(KeyError), quiet_log():
        print_log('without weights', 'current', logging.WARNING)
        print_log('broken', 'current', logging.ERROR)
        raise KeyError
    assert logger.level == level
    told = ''.join(capsys.readouterr())
    assert 'broken' in told and 'without weights' not in told
