"""A detector of a comparison."""

from dataclasses import dataclass
from pathlib import Path

from mmkd.compare.arms import Arm


@dataclass(frozen=True)
class Detector:
    """One detector of a comparison: ``checkpoint`` is its final one, a file or a URL."""

    arm: Arm
    seed: int
    folder: Path
    checkpoint: str
    trained: bool = True

    @property
    def test(self) -> str:
        """The evaluation that it takes: 'teacher' or 'student', a key of ``Comparison.tests``."""
        return 'teacher' if self.arm is Arm.TEACHER else 'student'

    @property
    def predictions(self) -> Path:
        """What its evaluation writes."""
        return self.folder / 'predictions.pkl'
