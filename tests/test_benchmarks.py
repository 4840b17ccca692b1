"""The benchmarks run; what they measure depends on the machine and is not tested."""

import runpy
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / 'benchmarks'


@pytest.mark.parametrize('name', ['imitation_masks', 'obj_scaled_box_cls'])
def test_runs(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', [name, '--quick'])
    runpy.run_path(str(FOLDER / f'{name}.py'), run_name='__main__')
    assert 'ratio' in capsys.readouterr().out
