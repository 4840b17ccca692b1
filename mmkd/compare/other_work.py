"""Whether other work on the machine slowed the steps of a job."""

import json
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from mmkd.fileio.atomic_writes import write_atomic

_EVERY = 2.0  # seconds between samples
_KEPT = 5  # samples after which they are kept, so that a job that is killed has told of them
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

    def sample(self, sessions: Iterable[int]) -> bool:
        """Look, unless that was done within the last seconds; ``sessions`` are the job's.

        Returns:
            Whether it is time to keep what was seen, which is so now and then.
        """
        if time.monotonic() - self._last < _EVERY:
            return False
        self._last = time.monotonic()
        mine, counts = set(sessions), [0, 0]
        for session, running in running_threads():
            counts[session in mine] += running
        self.others.append(counts[False])
        self.own.append(counts[True])
        return len(self.own) % _KEPT == 0

    def write(
        self, path: Path, first: int, cores: int, before: Mapping[str, float] | None = None
    ) -> None:
        """Keep the means of the samples from ``first`` on.

        Args:
            path: gets them.
            first: of the samples.
            cores: of the machine.
            before: what was kept of the same step until it was interrupted. Defaults to None.
        """
        own, others = self.own[first:], self.others[first:]
        if not own:
            return
        seen: dict[str, float] = dict(own=sum(own), others=sum(others), samples=len(own))
        if before:
            count = before.get('samples', 1)
            seen['samples'] += count
            for key in ('own', 'others'):
                seen[key] += before[key] * count
        means = {key: seen[key] / seen['samples'] for key in ('own', 'others')}
        kept = dict(**means, cores=cores, samples=seen['samples'])
        write_atomic(path, json.dumps(kept).encode())


def read_load(path: Path) -> dict[str, float] | None:
    """What :meth:`OtherWork.write` has kept; None if nothing was."""
    found: dict[str, float] | None = json.loads(path.read_text()) if path.is_file() else None
    return found


def was_disturbed(path: Path) -> bool:
    """Whether the step that left ``path`` had too few cores because of other work."""
    found = read_load(path)
    if found is None:
        return False
    return found['others'] > _MOST and found['own'] + found['others'] > found['cores']


class OthersMeanwhile:
    """What other processes of the machine take while this one measures itself.

    Two looks at the kernel's own counts, so that the look disturbs nothing. Only Linux has them.
    """

    def __init__(self) -> None:
        self._begin, self._before = time.monotonic(), _seconds_of_others()

    def crowd(self, threads: int) -> bool:
        """Whether they left less than ``threads`` cores to this process, since the beginning."""
        after, seconds = _seconds_of_others(), time.monotonic() - self._begin
        if after is None or self._before is None or not seconds:
            return False
        others = (after - self._before) / seconds
        return others > _MOST and others + threads > (os.cpu_count() or 1)


def _seconds_of_others() -> float | None:
    """Seconds of processors that all but this process and its ended children have taken."""
    try:
        counts = Path('/proc/stat').read_text().split('\n', 1)[0].split()[1:]
        user, nice, system, _idle, _waiting, *interrupts = map(int, counts[:7])
    except (OSError, ValueError):
        return None
    busy = (user + nice + system + sum(interrupts)) / os.sysconf('SC_CLK_TCK')
    return busy - sum(os.times()[:4])


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
