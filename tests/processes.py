"""Processes of their own for tests that need one, with mmkd imported.

A process that starts from nothing imports for six seconds of CPU. These are forked from one that
has imported all and done nothing else, so that each has a fresh state.
"""

import gc
import multiprocessing
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import forkserver
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from subprocess import TimeoutExpired

import torch

from tests.tiny import ROOT

CONTEXT = multiprocessing.get_context('forkserver')
# torch imports the second with the first optimizer.
CONTEXT.set_forkserver_preload(['tests.conftest', 'torch._inductor', 'mmkd_cli.main'])


def context() -> BaseContext:
    """Where such processes, and what they share, come from; the first call imports."""
    here = Path.cwd()
    os.chdir(ROOT)  # where its modules are found
    try:
        forkserver.ensure_running()
    finally:
        os.chdir(here)
    return CONTEXT


def start(target: Callable, *args: object) -> BaseProcess:
    """A process that runs a function of a module; on the CPU, where results are bitwise."""
    process = context().Process(target=_run, args=(target, args))
    process.start()
    return process


def _run(target: Callable, args: Sequence) -> None:
    os.environ['CUDA_VISIBLE_DEVICES'] = ''
    torch.set_num_threads(1)
    gc.freeze()
    target(*args)


class Command:
    """``python -m mmkd_cli ...``, as ``subprocess.Popen`` starts it."""

    def __init__(
        self, words: Sequence[str], stdout, env: Mapping[str, str] | None, **options: object
    ) -> None:
        words = list(words)
        argv = words[words.index('mmkd_cli') + 1 :]
        self._process = start(
            _command, argv, os.path.abspath(stdout.name), dict(env or os.environ), os.getcwd()
        )
        self.pid = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise TimeoutExpired('mmkd', timeout)
        return self._process.exitcode


def _command(argv: list[str], log: str, env: dict[str, str], folder: str) -> None:
    from mmkd_cli.main import main

    os.setsid()
    out = os.open(log, os.O_WRONLY | os.O_APPEND)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(folder)
    sys.argv = ['mmkd', *argv]
    sys.exit(main())
