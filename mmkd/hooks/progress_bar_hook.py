"""A line in a terminal: how much of a training is done, and how long the rest will take."""

import atexit
import logging
import sys
from contextlib import ExitStack
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop, Runner


@HOOKS.register_module()
class ProgressBarHook(Hook):
    """Shows epoch, iterations, time and remaining time below the log, as the demo does.

    Nothing is shown where stdout is no terminal, rich is not installed, or on other ranks than 0.
    The log's lines stay as they are and stand above the line. :class:`mmkd.runner.ExactRunner`
    has this hook, so that no config has it.
    """

    priority = 'VERY_LOW'

    def __init__(self) -> None:
        self._bars: Any = None
        self._open = ExitStack()

    def before_train(self, runner: Runner) -> None:
        """Open the line."""
        if not (sys.stdout.isatty() and is_main_process()):
            return
        try:
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeElapsedColumn,
                TimeRemainingColumn,
            )
        except ImportError:
            return
        columns = (
            *(TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn()),
            *(TimeElapsedColumn(), TextColumn('left'), TimeRemainingColumn()),
        )
        own = (sys.stdout, sys.__stdout__)
        bars = Progress(*columns, transient=True, speed_estimate_period=300)
        self._bars = self._open.enter_context(bars)
        atexit.register(self._open.close)  # after an error, too, with the cursor shown again
        self._task = self._bars.add_task('', total=runner.max_iters, completed=runner.iter)
        for handler in runner.logger.handlers:  # which keep the stream that they were made with
            if isinstance(handler, logging.StreamHandler) and handler.stream in own:
                self._open.callback(handler.setStream, handler.stream)
                handler.setStream(sys.stdout)

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Move it on."""
        if self._bars is not None:
            by_epoch = isinstance(runner.train_loop, EpochBasedTrainLoop)
            part = f'epoch {runner.epoch + 1}/{runner.max_epochs}, ' if by_epoch else ''
            self._bars.update(
                self._task, completed=runner.iter + 1, description=f'Training: {part}iteration'
            )

    def after_train(self, runner: Runner) -> None:
        """Close it."""
        self._open.close()
        self._bars = None
