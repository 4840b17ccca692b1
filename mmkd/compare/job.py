"""A job of several commands, side by side where they can be: progress, resuming, clear failures."""

import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column

from mmkd.compare.other_work import OtherWork, read_load
from mmkd.compare.step import Step, read_stamp
from mmkd.compare.workers import cores
from mmkd.fileio.atomic_writes import write_atomic

_TAIL = 25  # lines of the log shown when a step fails
_POLL = 0.2  # seconds between looks at the logs
_PDEATHSIG = 1  # of Linux's prctl: the signal that a process gets when its parent ends
_prctl = ctypes.CDLL(None).prctl if sys.platform == 'linux' else None


class StepFailed(RuntimeError):
    """A step's command did not succeed."""


class FolderInUse(RuntimeError):
    """Another job works in the folder."""


@contextmanager
def sole_user(folder: Path) -> Iterator[None]:
    """Keep other jobs out of a folder; the system forgets it when the process ends, however.

    Raises:
        FolderInUse: one is there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / '.lock').open('w') as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FolderInUse(
                f'a folder must have one job at a time, but another one works in "{folder}" now. '
                'Wait for it or stop it, or give this one another --work-dir.'
            ) from None
        except OSError:
            pass  # some file systems of clusters have no locks
        yield


def run_steps(
    steps: Sequence[Step],
    folder: Path,
    console: Console | None = None,
    workers: Sequence[Mapping[str, str] | None] = (None,),
    finished: Callable[[Step], None] = lambda step: None,
) -> None:
    """Run the steps; one whose inputs are unchanged since it finished is skipped.

    A step waits for the steps before it whose outputs are among its inputs.

    Args:
        steps (Sequence[Step]): The job.
        folder (Path): Gets ``logs/<name>.log``; ``logs/<name>.begun`` and, when a step has
            finished, ``logs/<name>.done`` hold the step's fingerprint; ``logs/<name>.load`` tells
            of other work that ran beside.
        console (Console, optional): Where progress is shown. Defaults to stdout.
        workers (Sequence[Mapping | None]): The environment of each step that may run at once, None
            for this process's; see :mod:`mmkd.compare.workers`. Defaults to one.
        finished (Callable): Called with each step that has finished, now or before. Defaults to
            nothing.

    Raises:
        StepFailed: A command failed, or did not write its outputs; the others have been ended.
        KeyboardInterrupt: Ctrl-C; the running commands have been ended. Call again to go on.
    """
    console = console or Console()
    logs = Path(folder) / 'logs'
    logs.mkdir(parents=True, exist_ok=True)
    bar = Progress(
        SpinnerColumn(),
        TextColumn('{task.description}', table_column=Column()),  # its lines break
        BarColumn(bar_width=20),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn('ETA'),
        TimeRemainingColumn(),
        console=console,
        speed_estimate_period=60,
    )
    waiting = dict(enumerate(steps))
    running: dict[int, _Run] = {}
    load = OtherWork()
    free = list(reversed(workers))
    total, done = sum(step.seconds for step in steps), 0.0
    with bar:
        task = bar.add_task('', total=total)
        try:
            while waiting or running:
                for number, step in list(waiting.items()):
                    blockers = [*running, *(other for other in waiting if other < number)]
                    if any(_feeds(steps[other], step) for other in blockers):
                        continue
                    if not free:
                        break
                    del waiting[number]
                    label = f'{number + 1}/{len(steps)} {step.title}'
                    run = _Run(step, label, logs, free[-1])
                    if run.start():
                        run.first_sample = len(load.own)
                        running[number] = run
                        free.pop()
                    else:
                        total -= step.seconds
                        console.print(f'[dim]{label}: done before[/]')
                        finished(step)
                for number, run in list(running.items()):
                    if run.poll():
                        del running[number]
                        free.append(run.env)
                        done += run.step.seconds
                        console.print(f'{run.label}: {run.seconds():.0f} s')
                        load.write(run.load, run.first_sample, cores(), run.load_before)
                        finished(run.step)
                now = done + sum(run.done * run.step.seconds for run in running.values())
                label = ' + '.join(run.label for run in running.values())
                bar.update(task, description=label, completed=now, total=total)
                if running:
                    if load.sample(run.pid for run in running.values()):
                        for run in running.values():
                            load.write(run.load, run.first_sample, cores(), run.load_before)
                    time.sleep(_POLL)
        finally:
            for run in running.values():
                run.end()
                load.write(run.load, run.first_sample, cores(), run.load_before)
        bar.update(task, description='Done')


def _feeds(first: Step, second: Step) -> bool:
    """Whether the second step reads what the first one writes."""
    return not {Path(p) for p in first.outputs}.isdisjoint(Path(p) for p in second.inputs)


class _Run:
    """One step's command while it runs; ``done`` is how much of it is done, from 0 to 1."""

    def __init__(self, step: Step, label: str, logs: Path, env: Mapping[str, str] | None) -> None:
        self.step, self.label, self.env = step, label, env
        self.log, self.begun_stamp, self.done_stamp, self.load = (
            logs / f'{step.name}.{end}' for end in ('log', 'begun', 'done', 'load')
        )
        self.fingerprint = step.fingerprint()
        self.done = 0.0
        self.first_sample = 0

    def start(self) -> bool:
        """Start the command; False if the step has finished before."""
        if self.step.is_done(self.log.parent, self.fingerprint):
            return False
        again = read_stamp(self.begun_stamp) == self.fingerprint and not self.done_stamp.exists()
        self.done_stamp.unlink(missing_ok=True)
        write_atomic(self.begun_stamp, self.fingerprint.encode())
        #: Other work beside the part of the step that is not run again.
        self.load_before = read_load(self.load) if again else None
        if not again:
            for path in (*self.step.scratch, self.load):
                Path(path).unlink(missing_ok=True)
        self._begin = time.monotonic()
        with self.log.open('wb') as log:
            self._process = subprocess.Popen(
                [str(part) for part in (*self.step.command, *(self.step.resume if again else ()))],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.env,
                start_new_session=True,  # so that data loader workers can be ended with it
                preexec_fn=_end_with_the_job if _prctl else None,
            )
        self._tail, self._line = self.log.open(encoding='utf-8', errors='replace'), ''
        return True

    @property
    def pid(self) -> int:
        return self._process.pid

    def seconds(self) -> float:
        return time.monotonic() - self._begin

    def poll(self) -> bool:
        """Read what is new in the log; True when the command has succeeded.

        Raises:
            StepFailed: It has failed, or did not write its outputs.
        """
        code = self._process.poll()
        *lines, self._line = (self._line + self._tail.read()).split('\n')
        for line in lines:
            fraction = self.step.progress(line)
            if fraction is not None:
                self.done = fraction
        if code is None:
            return False
        self._tail.close()
        missing = [str(path) for path in self.step.outputs if not Path(path).exists()]
        if code or missing:
            reason = f'ended with status {code}' if code else f'did not write {", ".join(missing)}'
            text = self.log.read_text(encoding='utf-8', errors='replace')
            tail = '\n'.join(text.splitlines()[-_TAIL:])
            raise StepFailed(
                f'{self.step.title} {reason}. The end of its log ({self.log}):\n\n{tail}\n\n'
                'Mend the cause and run the same command again: finished steps are kept.'
            )
        write_atomic(self.done_stamp, self.fingerprint.encode())
        return True

    def end(self) -> None:
        """End the command and all that it started."""
        self._tail.close()
        for number, patience in ((signal.SIGTERM, 10), (signal.SIGKILL, 10)):
            try:
                os.killpg(self._process.pid, number)
                self._process.wait(patience)
            except ProcessLookupError:
                return
            except subprocess.TimeoutExpired:
                continue


def _end_with_the_job() -> None:
    """In a new command: do not outlive a job that is killed, beside the one that goes on with it.

    The job itself cannot see to that, as no signal tells it (SIGKILL, a lack of memory).
    """
    if _prctl is not None:
        _prctl(_PDEATHSIG, signal.SIGKILL)


def python(*arguments: object) -> list[str]:
    """A command for this interpreter."""
    return [sys.executable, '-u', *map(str, arguments)]


def mmkd_command(*arguments: object) -> list[str]:
    """A subcommand of ``mmkd``, run by this interpreter."""
    return python('-m', 'mmkd_cli', *arguments)
