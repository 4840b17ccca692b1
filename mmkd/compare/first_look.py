"""What a comparison tells of its teacher: as soon as it can, and where its weights lie."""

import os
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from mmkd.compare.arms import Arm
from mmkd.compare.comparison import Comparison
from mmkd.compare.outcome import look_closer, runs_of
from mmkd.compare.report.results import is_clear, teacher_gap
from mmkd.compare.report.teacher import teacher_words
from mmkd.compare.step import Step


class FirstLook:
    """Compares the teacher with the first baseline when both are evaluated, before hours pass.

    Args:
        comparison: which runs.
        console: told what came of it.
    """

    def __init__(self, comparison: Comparison, console: Console) -> None:
        self.comparison, self.console = comparison, console
        baselines = [d for d in comparison.detectors if d.arm is Arm.BASELINE]
        teacher = comparison.teacher
        self._detectors = [] if teacher is None else [teacher, baselines[0]]
        self._awaited = {f'{detector.folder.name}-test' for detector in self._detectors}

    def __call__(self, step: Step) -> None:
        """A step has finished."""
        if step.name not in self._awaited:
            return
        self._awaited.remove(step.name)
        if not self._awaited:
            try:
                self._tell()
            except Exception as error:  # the students are trained whatever is told of the teacher
                told = f'The teacher could not be judged yet: {type(error).__name__}: {error}'
                self.console.print(f'[yellow]{escape(told)}[/]')

    def _tell(self) -> None:
        runs = runs_of(self.comparison, self._detectors)
        evidence = look_closer(self.comparison, runs, errors=False)
        gap = teacher_gap(runs, evidence)
        if gap is None:
            return
        colour = 'green' if is_clear(gap) else 'yellow'
        self.console.print(f'[{colour}]{escape(teacher_words(gap, evidence))}[/]')


def teacher_to_write(comparison: Comparison) -> list[str]:
    """What the pair has to name for its teacher, where it names no file that is there."""
    named, teacher = comparison.pair.model.get('teacher_ckpt'), comparison.teacher
    if teacher is None:
        return []
    if named and ('://' in named or Path(os.path.expanduser(named)).is_file()):
        return []
    there = f', which names {named!r}, a file that is not there' if named else ''
    return [
        f'To train or check the pair{there}, write into it: teacher_ckpt={teacher.checkpoint!r}'
    ]
