"""A step that a process of its own takes, as in a training: no setting of others is its own."""

import logging
import multiprocessing
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

import torch


class Apart:
    """Takes the step in a process of its own, which waits in between, and returns its terms.

    Args:
        make: makes the step, there, at once. It stands in a module.
        arguments: of ``make``.
        threads: of the step.
    """

    def __init__(self, make: Callable[..., Any], *arguments: Any, threads: int) -> None:
        context = multiprocessing.get_context('forkserver')  # forked before torch has threads
        self._pipe, theirs = context.Pipe()
        words = theirs, make, arguments, threads
        self._process = context.Process(target=_serve, args=words, daemon=True)
        self._process.start()
        theirs.close()

    def __enter__(self) -> 'Apart':
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.join()

    def __call__(self) -> dict[str, float]:
        return self._ask(True)

    @property
    def pid(self) -> int:
        """Of the process."""
        assert self._process.pid is not None
        return self._process.pid

    def cpu_seconds(self) -> float:
        """What the process has taken so far."""
        return self._ask(False)

    def _ask(self, step: bool) -> Any:
        self._pipe.send(step)
        return self._pipe.recv()


def _serve(pipe: Any, make: Callable[..., Any], arguments: tuple, threads: int) -> None:
    torch.set_num_threads(threads)
    logging.disable(logging.WARNING)
    step = make(*arguments)
    while True:
        if not pipe.recv():
            pipe.send(time.process_time())
            continue
        terms = step() or {}
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        pipe.send({key: float(value) for key, value in terms.items()})
