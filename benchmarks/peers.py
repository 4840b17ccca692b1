"""What mmkd is measured against, in a process of its own that has none of mmkd's settings."""

import logging
import multiprocessing
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

import torch

Steps = Mapping[str, Callable[[], object]]


class Peers:
    """Steps by name, which another process takes; it waits while this one works.

    It is forked, so begin it before this process changes a setting or runs a model.

    Args:
        make: makes the steps, there, when the first is asked for.
        arguments: of ``make``.
        threads: of each step.
        device: that they run on. CUDA does not survive a fork: for it the process is spawned.
    """

    def __init__(
        self, make: Callable[..., Steps], *arguments: Any, threads: int, device: str
    ) -> None:
        context: Any = multiprocessing.get_context('fork' if device == 'cpu' else 'spawn')
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, make, arguments, threads), daemon=True
        )
        self._process.start()
        theirs.close()

    def __enter__(self) -> 'Peers':
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the other process."""
        self._process.terminate()
        self._process.join()

    @property
    def pid(self) -> int:
        """Of the other process."""
        return self._process.pid

    def step(self, name: str) -> Callable[[], object]:
        """A function that lets the other process take a step, and waits for it."""
        return lambda: self._ask(name)

    def process_time(self) -> float:
        """CPU seconds of this process and the other one."""
        return time.process_time() + self.own_time()

    def own_time(self) -> float:
        """CPU seconds of the other process."""
        return self._ask('')

    def _ask(self, name: str) -> Any:
        self._pipe.send(name)
        return self._pipe.recv()


def _serve(pipe: Any, make: Callable[..., Steps], arguments: tuple, threads: int) -> None:
    torch.set_num_threads(threads)
    logging.disable(logging.WARNING)
    steps: Steps = {}
    while True:
        name = pipe.recv()
        if name:
            steps = steps or make(*arguments)
            steps[name]()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
        pipe.send(time.process_time())
