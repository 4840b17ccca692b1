"""``mmkd export --format``: files, exit status, refusals."""

import argparse
import importlib.util
import json
import re

import pytest

from mmkd.export import rows_graph
from mmkd_cli.export import add_arguments
from mmkd_cli.main import main
from tests.tiny import ROOT


def export(*words) -> int:
    return main(['export', *map(str, words)])


@pytest.fixture
def student(ssd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return ssd


def test_a_student_alone_becomes_a_file_with_its_proof(student, tmp_path, capsys):
    from mmkd_onnx import load

    words = (student, '--format', 'onnx', '--out', 'made/s.onnx', '--nms', '--map-images', '2')
    assert export(*words) == 0
    told = capsys.readouterr().out
    for step in ('rows', 'detections', 'mAP'):
        assert f'  {step:10} passed' in told
    report = json.loads((tmp_path / 'made/s.parity.json').read_text())
    assert report['passed'] and [step['name'] for step in report['steps']] == [
        'rows',
        'detections',
        'mAP',
    ]
    detect = load('made/s.onnx')
    assert report['weights_sha256'] == detect.metadata.told['weights_sha256']
    assert detect.metadata.told['outputs'] == 'detections'
    assert detect(student.parent / 'images/0.png').scores.size
    with pytest.raises(FileExistsError, match=r's\.onnx exists.*--force'):
        export(*words)


def test_the_page_names_each_option():
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    [group] = [g for g in parser._action_groups if g.title == 'with --format']
    text = (ROOT / 'docs/export.md').read_text()
    options = [option for action in group._group_actions for option in action.option_strings]
    assert '--int8' in options
    assert [option for option in options if not re.search(rf'`{option}[` ]', text)] == []


def test_what_differs_is_told_by_the_exit_status(student, tmp_path, monkeypatch, capsys):
    own = rows_graph.RowsGraph._normalised
    monkeypatch.setattr(
        rows_graph.RowsGraph, '_normalised', lambda self, image: own(self, image.flip(1))
    )
    image = student.parent / 'images/0.png'
    words = ('--format', 'onnx', '--out', 's.onnx', '--images', image, '--map-images', '0')
    assert export(student, *words) == 1
    assert 'rows       FAILED' in capsys.readouterr().out
    assert json.loads((tmp_path / 's.parity.json').read_text())['passed'] is False


def test_a_config_is_named_before_its_checkpoint(student, tmp_path, capsys):
    from mmkd.export.trained import open_trained

    config = tmp_path / 'own.py'
    text = open_trained(str(student)).config.pretty_text
    config.write_text(text.replace('val.json', 'gone.json'))
    words = (config, student, '--format', 'onnx', '--out', 's.onnx', '--size', 32, 64)
    assert export(*words, '--opset', 17) == 0
    assert 'mAP        reported not measured: the validation set is not here' in (
        capsys.readouterr().out
    )
    import onnx

    model = onnx.load('s.onnx')
    assert model.opset_import[0].version == 17
    assert [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim[2:]] == [32, 64]


@pytest.mark.parametrize(
    ('words', 'match'),
    [
        (['--format', 'coreml'], 'coreml is not: coremltools'),
        (['--format', 'tflite'], 'tflite is not: its converters'),
        (['--format', 'onnx', '--opset', '3'], 'from 16 to 21, but got 3'),
        (['--format', 'onnx', '--images', 'no.png'], 'there is no "no.png"'),
        (['--format', 'onnx', '--images', ROOT / 'README.md'], 'README.md" is not'),
        (['--format', 'onnx', '--out', '.'], r'--out must name a file, but got "\."'),
    ],
)
def test_what_cannot_be_is_refused_before_work_starts(student, tmp_path, words, match):
    with pytest.raises((ValueError, OSError), match=match):
        export(student, '--out', 's.onnx', *words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('half', [False, True])
def test_openvino_finds_the_same(student, tmp_path, capsys, half):
    pytest.importorskip('openvino')
    words = ['--format', 'openvino', '--out', 's.onnx', '--map-images', '2']
    words += ['--half'] if half else []
    assert export(student, *words) == 0
    told = capsys.readouterr().out
    assert 's.xml, made of s.onnx' in told
    word = 'reported' if half else 'passed'
    assert told.count(f'  rows       {word}') == told.count(f'  detections {word}') == 2
    assert told.count('  mAP        passed') == 2
    report = json.loads((tmp_path / 's.openvino.parity.json').read_text())
    assert report['passed'] and report['file'] == 's.xml'
    (tmp_path / 's.onnx').unlink()
    (tmp_path / 's.parity.json').unlink()
    with pytest.raises(FileExistsError, match=r's\.xml exists'):
        export(student, *words)


def test_a_gpu_is_needed_for_tensorrt(student, monkeypatch):
    """Where its package is installed."""
    import torch

    from mmkd.export.converters import check_converter

    if torch.cuda.is_available():
        pytest.skip('there is one')
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: object())
    with pytest.raises(RuntimeError, match='built on the kind of GPU that it will run on, but'):
        check_converter('tensorrt')


@pytest.mark.parametrize('kind', ['openvino', 'tensorrt'])
def test_a_converter_that_is_not_there_is_named(student, kind):
    if importlib.util.find_spec(kind) is not None:
        pytest.skip('it is installed')
    with pytest.raises(ModuleNotFoundError, match=f'{kind} needs {kind}, which is not installed'):
        export(student, '--format', kind)


@pytest.mark.parametrize(
    ('words', 'match'),
    [
        (['a.py'], 'without --format it takes CONFIG CHECKPOINT NAME.pth'),
        (['a.py', 'b.pth'], 'without --format it takes'),
        (['a.py', 'b.pth', 'c.onnx', '--format', 'onnx'], 'named by --out'),
        (['b.pth', 'c.onnx', '--format', 'onnx'], '"b.pth", which is no config. Name the file'),
        (['b.pth', '--format', 'onnx', '--size', '0', '3'], 'two numbers above 0'),
        (['b.pth', '--format', 'onnx', '--cfg-options', 'a=1'], 'so name it'),
        (['b.pth', '--format', 'onnx', '--map-images', '-1'], '0 or more, but got -1'),
    ],
)
def test_words_that_do_not_fit_are_told(words, match, capsys):
    with pytest.raises(SystemExit):
        export(*words)
    assert match in ' '.join(capsys.readouterr().err.split())


def test_a_hostile_config_inside_a_checkpoint_is_not_run(student, tmp_path):
    from mmkd.checkpoints.detector_checkpoint import read_checkpoint, save_checkpoint

    held = read_checkpoint(str(student))
    for text, match in (
        ('model = __import__("os").system("touch ran")', 'would have to be run'),
        ('model = dict(type="os.path.join")', 'os.path.join, which would have to be run'),
        (None, 'has none'),
    ):
        save_checkpoint({**held, 'meta': {'cfg': text} if text else {}}, tmp_path / 'h.pth')
        with pytest.raises(ValueError, match=match):
            export('h.pth', '--format', 'onnx')
    assert not (tmp_path / 'ran').exists()
