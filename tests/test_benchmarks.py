"""The benchmarks run; what they measure depends on the machine and is not tested."""

import logging
import re
import runpy
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / 'benchmarks'


@pytest.mark.parametrize(
    'name', ['imitation_masks', 'obj_scaled_box_cls', 'batched_targets', 'wide_convolutions']
)
def test_runs(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', [name, '--quick'])
    monkeypatch.syspath_prepend(FOLDER)
    runpy.run_path(str(FOLDER / f'{name}.py'), run_name='__main__')
    assert 'ratio' in capsys.readouterr().out


def test_the_picture_is_drawn_from_the_kept_log(monkeypatch, tmp_path):
    log, drawn = (FOLDER.parent / 'docs' / name for name in ('growth.json', 'growth.svg'))
    arguments = ['growth', '--log', str(log), '--draw', str(tmp_path / 'growth.svg')]
    monkeypatch.setattr(sys, 'argv', arguments)
    monkeypatch.syspath_prepend(FOLDER)
    runpy.run_path(str(FOLDER / 'growth.py'), run_name='__main__')
    labels = re.compile(r'<text[^>]*>([^<]*)</text>')
    shown = labels.findall((tmp_path / 'growth.svg').read_text())
    assert 'objects an image' in shown and shown == labels.findall(drawn.read_text())


def test_what_loading_costs(monkeypatch, capsys):
    pytest.importorskip('mmyolo')
    monkeypatch.setattr(sys, 'argv', ['loading', '--quick'])
    monkeypatch.syspath_prepend(FOLDER)
    module = runpy.run_path(str(FOLDER / 'loading.py'))
    monkeypatch.setitem(module['main'].__globals__, 'step_cost', lambda *_: 100.0)
    try:
        module['main']()
    finally:
        logging.disable(logging.NOTSET)
    printed = capsys.readouterr().out
    assert 'MinIoURandomCrop' in printed and 'Mosaic' in printed and 'share of loading' in printed


def test_the_cost_of_the_checks_before_a_run(monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['start_up', '--quick'])
    runpy.run_path(str(FOLDER / 'start_up.py'), run_name='__main__')
    assert 'target 25 s: met' in capsys.readouterr().out


def test_the_cost_of_a_step(monkeypatch, capsys):
    pytest.importorskip('mmyolo')
    monkeypatch.setattr(sys, 'argv', ['run', '--quick', '--pairs', 'yolov5', '--threads', '1'])
    monkeypatch.syspath_prepend(FOLDER)
    try:
        runpy.run_path(str(FOLDER / 'run.py'), run_name='__main__')
    finally:
        logging.disable(logging.NOTSET)
    out = capsys.readouterr().out
    assert 'fast / float32' in out and 'not measured here' in out


def test_the_rates_of_convolutions(monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['layouts', '--quick'])
    monkeypatch.syspath_prepend(FOLDER)
    try:
        runpy.run_path(str(FOLDER / 'layouts.py'), run_name='__main__')
    finally:
        logging.disable(logging.NOTSET)
    rows = re.findall(r'^ssd .*(0\.\d\d)  (\d\.\d\d)$', capsys.readouterr().out, re.M)
    assert len(rows) == 2 and all(0 < float(share) < 1 for share, _ in rows)


def test_the_ops_that_configs_need(monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['config_ops', 'pisa', 'tood', 'guided_anchoring', 'clrnet'])
    runpy.run_path(str(FOLDER / 'config_ops.py'), run_name='__main__')
    lines = {line.split()[0]: line.split()[1] for line in capsys.readouterr().out.splitlines()}
    for op in ('nms', 'nms_match', 'roi_align_forward', 'deform_conv_forward'):
        assert lines[op] == 'stand-in'
    assert lines['masked_im2col_forward'] == 'stand-in' and lines['line_nms_forward'] == 'MISSING'


def test_gains_of_several_configs(monkeypatch, capsys, tmp_path):
    """All is there already: what it makes of it."""
    module = runpy.run_path(str(FOLDER / 'gains.py'))
    points = {'alone': (20, 22), 'taught': (23, 24), 'more': (27, 26), 'more_shuffled': (10, None)}
    for name, values in points.items():
        for seed, value in enumerate(values):
            if value is not None:
                path = tmp_path / f'{name}_seed{seed}.json'
                path.write_text(f'{{"coco/bbox_mAP": {value / 100}}}')
    log = tmp_path / 'log.txt'
    words = ['alone.py', 'taught.py', 'more.py', '--seeds', '0', '1', '--control', '0']
    options = ['--work-dir', str(tmp_path), '--log', str(log)]
    monkeypatch.setattr(sys, 'argv', ['gains', *words, *options])
    module['main']()
    _, _, *rows = capsys.readouterr().out.splitlines()
    cells = [[cell.strip() for cell in row.split('|')[1:-1]] for row in rows]
    assert [row[0] for row in cells] == ['alone', 'taught', 'more', 'more (shuffled)']
    assert cells[0][1:4] == ['21.0 ± 12.7', '', '']
    assert cells[1][2:4] == ['2.5 ± 6.4', '2.5 ± 6.4']
    assert cells[2][2:4] == ['5.5 ± 19.1', '3.0 ± 12.7']
    assert cells[3][1:] == ['10.0', '-10.0', '-17.0', '0: 10.0']
    assert log.read_text().endswith('\n'.join(rows) + '\n') and words[0] in log.read_text()
