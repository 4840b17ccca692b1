"""The digits demo: its data and what it plans; the rest is that of a comparison."""

import pytest

pytest.importorskip('matplotlib')
pytest.importorskip('rich')
pytest.importorskip('sklearn')

from mmkd.compare import Comparison
from mmkd_cli.main import main

SIZE = ['--images', '8', '4']


def test_a_failing_step_says_why(tmp_path, forked_steps, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'data/digits').mkdir(parents=True)
    (tmp_path / 'data/digits/mine.txt').write_text('words')
    assert main(['demo', *SIZE, '--work-dir', 'job']) == 1
    assert 'is not a digits data set' in ' '.join(capsys.readouterr().out.split())


def test_every_step_waits_for_the_data_and_no_epoch_is_validated(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    planned = []

    def stop(comparison: Comparison, _title, _command, workers, before):
        planned.extend([comparison, workers, *before])
        return 0

    monkeypatch.setattr('mmkd.compare.run_comparison', stop)
    options = ['--seeds', '0', '1', '--workers', '3', '--cfg-options', 'train_cfg.max_epochs=2']
    assert main(['demo', *SIZE, *options]) == 0
    comparison, workers, data = planned
    assert workers == 3
    steps = comparison.steps(data.outputs)
    assert len(steps) == 2 * (1 + 2 * 2)
    assert steps[0].name == 'teacher-train' and steps[0].epochs == 2
    assert all(set(data.outputs) <= set(step.inputs) for step in steps)
    assert all(c.train_cfg.val_interval == 1000 for c in comparison.configs.values())
