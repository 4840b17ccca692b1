"""The teacher is judged early; what goes wrong there stops nothing."""

from pathlib import Path

import pytest

pytest.importorskip('rich')

from rich.console import Console

from mmkd.compare import Comparison, first_look
from mmkd.compare.first_look import FirstLook, teacher_to_write
from mmkd.compare.step import Step
from tests.compare.test_verdict import evidence, runs
from tests.tiny import ROOT

DIGITS = ROOT / 'configs/ssd_kd_r18_to_r18w8_digits.py'


@pytest.fixture
def comparison(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Comparison(DIGITS, Path('job'), [3, 4])


def finished(comparison, *names) -> str:
    console = Console(record=True, width=400, quiet=False)
    look = FirstLook(comparison, console)
    for name in names:
        look(Step(name, name, [], []))
    return console.export_text()


def test_it_waits_for_the_teacher_and_the_first_baseline(comparison, monkeypatch):
    found = [run for run in runs([0.1], teacher=0.41) if run.arm in ('teacher', 'baseline')]
    monkeypatch.setattr(first_look, 'runs_of', lambda comparison, detectors: found)
    monkeypatch.setattr(first_look, 'look_closer', lambda *_, **__: evidence(found, 40, 60, 0.1))
    assert finished(comparison, 'teacher-train', 'teacher-test', 'baseline_seed4-test') == ''
    told = finished(comparison, 'baseline_seed3-test', 'kd_seed3-train', 'teacher-test')
    assert told.startswith('The teacher is not clearly above the baseline: +1.0 ± ')
    assert '40 test images with 60 objects' in told and told.count('teacher is') == 1


def test_a_fault_there_is_told_and_stops_nothing(comparison):
    told = finished(comparison, 'baseline_seed3-test', 'teacher-test')  # neither has run
    assert 'The teacher could not be judged yet: ConfigFileNotFoundError' in told


def test_the_path_to_write_into_the_pair_is_told(comparison, tmp_path):
    [line] = teacher_to_write(comparison)
    assert "names 'work_dirs/ssd_r18w32_digits/epoch_5.pth', a file that is not there" in line
    assert line.endswith("write into it: teacher_ckpt='job/teacher/epoch_5.pth'")
    options = {'model.teacher_ckpt': None}
    [line] = teacher_to_write(Comparison(DIGITS, Path('job'), [0], options=options))
    assert 'names' not in line and "teacher_ckpt='job/teacher/epoch_5.pth'" in line
    given = tmp_path / 'given.pth'
    given.touch()
    [line] = teacher_to_write(Comparison(DIGITS, Path('job'), [0], teacher_ckpt=str(given)))
    assert line.endswith(f'write into it: teacher_ckpt={str(given)!r}'), 'it is not in the pair'
    options = {'model.teacher_ckpt': str(given)}
    again = Comparison(DIGITS, Path('job'), [0], options=options, train_teacher=True)
    assert teacher_to_write(again) == [], 'the pair names weights that are there'
    assert teacher_to_write(Comparison(DIGITS, Path('job'), [0], options=options)) == []
