"""A step of a job: a command, what it reads and what it writes."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_ITERATION = re.compile(r'(?:Epoch|Iter)\((train|val|test)\)\s+(?:\[(\d+)\])?\[\s*(\d+)/(\d+)\]')


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
        epochs (int): Epochs it trains, to read its progress from the log. Defaults to 1, which
            also suits a training that counts iterations.
        resume (Sequence[str]): Arguments added when the same step was begun before and did not
            finish. Defaults to ().
        scratch (Sequence[Path]): Files removed before it begins anew, so that it cannot resume
            from what another step left. Defaults to ().
    """

    name: str
    title: str
    command: Sequence[str]
    outputs: Sequence[Path]
    inputs: Sequence[Path] = ()
    settings: str = ''
    seconds: float = 10.0
    epochs: int = 1
    resume: Sequence[str] = ()
    scratch: Sequence[Path] = ()

    def fingerprint(self) -> str:
        """Digest of all that the outputs depend on; not of the folder in which the project lies."""
        words = [Path(w).name if Path(w).is_absolute() else str(w) for w in self.command]
        digest = hashlib.sha256(repr((words, self.settings)).encode())
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

    def is_done(self, logs: Path, fingerprint: str | None = None) -> bool:
        """Whether it has finished before, and nothing that it depends on has changed since.

        Args:
            logs: folder in which a job leaves its stamps.
            fingerprint: of this step, if it is known.
        """
        if not all(Path(path).exists() for path in (*self.outputs, *self.inputs)):
            return False
        return read_stamp(logs / f'{self.name}.done') == (fingerprint or self.fingerprint())


def read_stamp(path: Path) -> str | None:
    """The fingerprint that a job has left; None if there is none."""
    return path.read_text() if path.is_file() else None
