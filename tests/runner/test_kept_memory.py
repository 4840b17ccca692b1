"""A training on a CPU keeps the memory that it frees, where nobody has set how."""

import ctypes
import os
import resource
from multiprocessing.connection import Connection
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config

from mmkd.runner import kept_memory
from mmkd.runner.kept_memory import keep_memory
from mmkd.runner.train import train
from tests import processes

MANY = 3 << 26 >> 12  # pages of three blocks of 64 MB
libc = ctypes.CDLL(None)


def new_pages() -> int:
    """How many pages the kernel gives to three blocks, one after the other."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(3):
        torch.ones(1 << 24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def _pages(pipe: Connection, settings: dict[str, str]) -> None:
    for name in [name for name in os.environ if name.startswith('MALLOC_')]:
        del os.environ[name]
    os.environ.pop('GLIBC_TUNABLES', None)
    os.environ.update(settings)
    torch.ones(1 << 24)
    before = new_pages()
    kept = keep_memory()
    # Small things may lie between the first blocks, which are then too short for the next.
    pipe.send((kept, before, min(new_pages() for _ in range(6))))


@pytest.mark.skipif(not hasattr(libc, 'gnu_get_libc_version'), reason='not glibc')
@pytest.mark.parametrize(
    'settings, kept',
    [
        ({}, True),
        ({'GLIBC_TUNABLES': 'glibc.cpu.x86_ibt=off'}, True),
        ({'MALLOC_TRIM_THRESHOLD_': '131072'}, False),
        ({'MALLOC_ARENA_MAX': '2'}, False),
        ({'GLIBC_TUNABLES': 'glibc.malloc.mmap_threshold=131072'}, False),
    ],
)
def test_blocks_come_from_what_was_freed(settings, kept):
    ours, theirs = processes.context().Pipe()
    process = processes.start(_pages, theirs, settings)
    found, before, after = ours.recv()
    process.join()
    assert found is kept
    assert before > MANY * 0.9
    assert (after < MANY * 0.1) if kept else (after > MANY * 0.9)


class Library:
    """A C library in which it would be done; ``mallopt`` is not called."""

    glibc, calls = True, []

    def __init__(self, name: str | None) -> None:
        self.malloc = libc.malloc
        if self.glibc:
            self.gnu_get_libc_version = None

    def mallopt(self, parameter: int, value: int) -> int:
        self.calls.append((parameter, value))
        return 1


class Preloaded(Library):
    def __init__(self, name: str | None) -> None:
        super().__init__(name)
        if name is None:
            self.malloc = libc.calloc


class Musl(Library):
    glibc = False


@pytest.mark.parametrize(
    'library, device, platform, kept',
    [
        (Library, 'cpu', 'linux', True),
        (Library, 'cuda', 'linux', False),
        (Library, 'cpu', 'darwin', False),
        (Preloaded, 'cpu', 'linux', False),
        (Musl, 'cpu', 'linux', False),
    ],
)
def test_where_it_is_done(monkeypatch, library, device, platform, kept):
    for name in [name for name in os.environ if name.startswith('MALLOC_')]:
        monkeypatch.delenv(name)
    monkeypatch.delenv('GLIBC_TUNABLES', raising=False)
    monkeypatch.setattr(Library, 'calls', [])
    monkeypatch.setattr(kept_memory, 'ctypes', SimpleNamespace(**{**vars(ctypes), 'CDLL': library}))
    monkeypatch.setattr(kept_memory, 'sys', SimpleNamespace(platform=platform))
    monkeypatch.setattr(kept_memory, 'get_device', lambda: device)
    assert keep_memory() is kept
    assert Library.calls == ([(-4, 0), (-1, -1)] if kept else [])


def test_a_training_begins_with_it(monkeypatch):
    begun = []
    monkeypatch.setattr('mmkd.runner.train.keep_memory', lambda: begun.append(True))
    with pytest.raises(ValueError, match='batched_targets must be'):
        train(Config(dict(batched_targets='no')))
    assert begun
