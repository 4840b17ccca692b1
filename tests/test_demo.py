"""The digits demo, from end to end at a tiny size."""

import importlib.util
import json

import pytest

from tests.tiny import ROOT

for package in ('matplotlib', 'rich', 'sklearn'):
    pytest.importorskip(package)

SIZE = ['--images', '8', '4']
FAST = [
    'train_cfg.max_epochs=1',
    'train_dataloader.batch_size=4',
    'train_dataloader.num_workers=0',
    'train_dataloader.persistent_workers=False',
    'default_hooks.logger.interval=1',
]


@pytest.fixture
def demo():
    spec = importlib.util.spec_from_file_location('demo', ROOT / 'tools/demo.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_demo_from_start_to_report_then_nothing_to_do(demo, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = [*SIZE, '--work-dir', 'job', '--cfg-options', *FAST]
    assert demo.main(command) == 0, capsys.readouterr().out
    content = json.loads((tmp_path / 'job/report.json').read_text())
    assert [run['role'] for run in content['runs']] == ['teacher', 'student', 'distilled']
    assert content['runs'][0]['parameters'] > content['runs'][1]['parameters']
    assert content['runs'][1]['parameters'] == content['runs'][2]['parameters']
    assert all(run['step_seconds'] > 0 for run in content['runs'])
    page = (tmp_path / 'job/report.html').read_text()
    assert 'Student distilled' in page
    assert 'data:image/png' in page
    assert str(tmp_path) not in page
    assert (tmp_path / 'job/report.md').is_file()
    assert (tmp_path / 'job/report.png').is_file()
    capsys.readouterr()
    assert demo.main(command) == 0
    assert capsys.readouterr().out.count('done before') == 7


def test_a_failing_step_says_why(demo, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'data/digits').mkdir(parents=True)
    (tmp_path / 'data/digits/mine.txt').write_text('words')
    assert demo.main([*SIZE, '--work-dir', 'job']) == 1
    assert 'is not a digits data set' in ' '.join(capsys.readouterr().out.split())


def test_the_teacher_is_trained_once_for_all_seeds(demo, monkeypatch):
    names = [name for name, _, _ in demo.detectors(demo.parse_args(['--seeds', '0', '1', '2']))]
    assert names.count('teacher') == 1
    assert len(names) == 7
