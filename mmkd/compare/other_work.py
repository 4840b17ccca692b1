"""Whether other work on the machine slowed the steps of a job."""

import json
import os
import time
from collections.abc import Iterable
from pathlib import Path

from mmkd.fileio.atomic_writes import write_atomic

_EVERY = 2.0  # seconds between samples
#: So many threads beside the job's own, on average, are more than a shell and a monitor.
_MOST = 0.5


class OtherWork:
    """Threads that run or wait for a core while a job does: the job's own, and all others.

    It is the load average, told apart by whose work it is. Only Linux tells; elsewhere nothing is
    measured.
    """

    def __init__(self) -> None:
        self._last = -_EVERY
        self.own: list[int] = []
        self.others: list[int] = []

    def sample(self, sessions: Iterable[int]) -> None:
        """Look, unless that was done within the last seconds; ``sessions`` are the job's."""
        if time.monotonic() - self._last < _EVERY:
            return
        self._last = time.monotonic()
        mine, counts = set(sessions), [0, 0]
        for session, running in running_threads():
            counts[session in mine] += running
        self.others.append(counts[False])
        self.own.append(counts[True])

    def write(self, path: Path, first: int, cores: int) -> None:
        """Keep the means of the samples from ``first`` on."""
        own, others = self.own[first:], self.others[first:]
        if own:
            mean = dict(own=sum(own) / len(own), others=sum(others) / len(others), cores=cores)
            write_atomic(path, json.dumps(mean).encode())


def was_disturbed(path: Path) -> bool:
    """Whether the step that left ``path`` had too few cores because of other work."""
    if not path.is_file():
        return False
    found = json.loads(path.read_text())
    return found['others'] > _MOST and found['own'] + found['others'] > found['cores']


def running_threads() -> Iterable[tuple[int, int]]:
    """Of each other process its session and how many of its threads run or wait for a core."""
    for folder in Path('/proc').glob('[0-9]*'):
        if folder.name == str(os.getpid()):
            continue
        try:
            session = int(_fields(folder / 'stat')[3])
            tasks = list((folder / 'task').iterdir())
            yield session, sum(_fields(task / 'stat')[0] == 'R' for task in tasks)
        except (OSError, ValueError, IndexError):
            continue  # it has ended meanwhile


def _fields(path: Path) -> list[str]:
    """What follows the name, in which there may be blanks and brackets: the state is first."""
    return path.read_text().rpartition(')')[2].split()
