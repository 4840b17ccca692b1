"""The shipped configs, as ``mmkd test`` and the export see them; each is read once."""

import functools
from pathlib import Path

from mmengine.config import Config

from mmkd.export.student_config import student_config
from tests.tiny import ROOT

SHIPPED = sorted((ROOT / 'configs').glob('*.py'))


@functools.cache
def shipped_student(path: Path) -> Config:
    """The config of the student, or of the detector; not to be changed."""
    return student_config(Config.fromfile(path))
