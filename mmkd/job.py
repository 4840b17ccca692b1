"""A job of several commands: progress over all of it, resumable, with clear failures."""

import hashlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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

_ITERATION = re.compile(r'Epoch\((train|val|test)\)\s+(?:\[(\d+)\])?\[\s*(\d+)/(\d+)\]')
_TAIL = 25  # lines of the log shown when a step fails


class StepFailed(RuntimeError):
    """A step's command did not succeed."""


@dataclass(frozen=True)
class Step:
    """One command of a job.

    Args:
        name (str): Unique in the job; names the step's log.
        title (str): What the user reads.
        command (Sequence[str]): Program and arguments.
        outputs (Sequence[Path]): Files that are there when the command has succeeded.
        inputs (Sequence[Path]): Files whose contents the outputs depend on.
        settings (str): Anything else that the outputs depend on. Defaults to ''.
        seconds (float): About how long it takes: its share of the progress. Defaults to 10.
        epochs (int): Epochs it trains, to read its progress from the log. Defaults to 1.
    """

    name: str
    title: str
    command: Sequence[str]
    outputs: Sequence[Path]
    inputs: Sequence[Path] = ()
    settings: str = ''
    seconds: float = 10.0
    epochs: int = 1

    def fingerprint(self) -> str:
        """Digest of all that the outputs depend on."""
        digest = hashlib.sha256(repr((list(self.command), self.settings)).encode())
        for path in self.inputs:
            digest.update(hashlib.sha256(Path(path).read_bytes()).digest())
        return digest.hexdigest()

    def progress(self, line: str) -> float | None:
        """How much of the step is done by a line of its log, from 0 to 1; None if it says nothing.

        >>> step = Step('s', 'S', [], [], epochs=4)
        >>> step.progress('Epoch(train)  [3][ 75/150]  lr: 1.0e-03')
        0.625
        """
        found = _ITERATION.search(line)
        if not found or (found[1] == 'val'):
            return None
        epoch = int(found[2] or 1) - 1
        return min((epoch + int(found[3]) / int(found[4])) / self.epochs, 1.0)


def run_steps(
    steps: Sequence[Step],
    folder: Path,
    console: Console | None = None,
    env: Mapping[str, str] | None = None,
) -> None:
    """Run the steps in order; one whose inputs are unchanged since it finished is skipped.

    Args:
        steps (Sequence[Step]): The job.
        folder (Path): Gets ``logs/<name>.log`` and, when a step has finished, ``logs/<name>.done``.
        console (Console, optional): Where progress is shown. Defaults to stdout.
        env (Mapping, optional): Environment of the commands. Defaults to this process's.

    Raises:
        StepFailed: A command failed, or did not write its outputs.
        KeyboardInterrupt: Ctrl-C; the running command has been ended. Call again to go on.
    """
    console = console or Console()
    logs = Path(folder) / 'logs'
    logs.mkdir(parents=True, exist_ok=True)
    bar = Progress(
        SpinnerColumn(),
        TextColumn('{task.description}'),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn('ETA'),
        TimeRemainingColumn(),
        console=console,
        speed_estimate_period=60,
    )
    with bar:
        total = sum(step.seconds for step in steps)
        task = bar.add_task('', total=total)
        done = 0.0
        for number, step in enumerate(steps, 1):
            label = f'{number}/{len(steps)} {step.title}'
            stamp = logs / f'{step.name}.done'
            fingerprint = step.fingerprint()
            if _finished(step, stamp, fingerprint):
                total -= step.seconds
                bar.update(task, total=total)
                console.print(f'[dim]{label}: done before[/]')
                continue
            bar.update(task, description=label)
            stamp.unlink(missing_ok=True)
            start = time.monotonic()
            for fraction in _run(step, logs / f'{step.name}.log', env):
                bar.update(task, completed=done + fraction * step.seconds)
            partial = stamp.with_suffix('.tmp')
            partial.write_text(fingerprint)
            partial.replace(stamp)
            done += step.seconds
            bar.update(task, completed=done)
            console.print(f'{label}: {time.monotonic() - start:.0f} s')
        bar.update(task, description='Done')


def _finished(step: Step, stamp: Path, fingerprint: str) -> bool:
    return (
        stamp.is_file()
        and stamp.read_text() == fingerprint
        and all(Path(path).exists() for path in step.outputs)
    )


def _run(step: Step, log: Path, env: Mapping[str, str] | None):
    """Run a step's command; yield how much of it is done."""
    with (
        log.open('w', encoding='utf-8', errors='replace') as file,
        subprocess.Popen(
            [str(part) for part in step.command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors='replace',
            env=env,
            start_new_session=True,  # so that data loader workers can be ended with it
        ) as process,
    ):
        try:
            for line in process.stdout or ():
                file.write(line)
                fraction = step.progress(line)
                if fraction is not None:
                    yield fraction
            code = process.wait()
        except BaseException:
            _end(process)
            raise
    missing = [str(path) for path in step.outputs if not Path(path).exists()]
    if code or missing:
        reason = f'ended with status {code}' if code else f'did not write {", ".join(missing)}'
        tail = '\n'.join(log.read_text(encoding='utf-8').splitlines()[-_TAIL:])
        raise StepFailed(
            f'{step.title} {reason}. The end of its log ({log}):\n\n{tail}\n\n'
            'Mend the cause and run the same command again: finished steps are kept.'
        )


def _end(process: subprocess.Popen) -> None:
    for number, patience in ((signal.SIGTERM, 10), (signal.SIGKILL, 10)):
        try:
            os.killpg(process.pid, number)
            process.wait(patience)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def python(*arguments: object) -> list[str]:
    """A command for this interpreter."""
    return [sys.executable, '-u', *map(str, arguments)]
