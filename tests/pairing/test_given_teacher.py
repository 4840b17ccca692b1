"""``mmkd pair`` with a teacher that is known by its detections: a file, an ONNX file."""

import json
import re
from pathlib import Path

import pytest
from mmengine.config import Config

from tests.pairing.models import write_detector
from tests.pairing.test_write_pair import CLASSES, pair
from tests.teachers.test_outside_detectors import ROWS, SCORES, TOLD
from tests.teachers.test_outside_detectors import model as onnx_model
from tests.tiny import tiny_ssd, write_coco

OUT = ('--out', 'my_pair.py')


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An SSD, data of three classes, and what another detector found there."""
    monkeypatch.chdir(tmp_path)
    files = {
        split: write_coco(Path('mine'), split, images, CLASSES, seed=images)
        for split, images in (('train', 4), ('val', 2))
    }
    write_detector(Path('ssd.py'), tiny_ssd())
    rows = [
        dict(image_id=a['image_id'], category_id=a['category_id'], bbox=a['bbox'], score=0.7)
        for a in json.loads(files['train'].read_text())['annotations']
    ]
    Path('teacher.json').write_text(json.dumps(rows))
    model = dict(tiny_ssd(), _scope_='mmdet')
    text = f'model = {model!r}\nmetainfo = dict(classes={CLASSES!r})\n'
    Path('alone.py').write_text(text)
    return tmp_path


@pytest.mark.parametrize('method', [None, 'prediction_rows'])
def test_a_file_of_detections_teaches(here, capsys, monkeypatch, method):
    words = ['teacher.json', 'ssd.py', '--data', 'mine', *OUT]
    assert pair(*words, *(['--method', method] if method else [])) == 0
    said = capsys.readouterr().out
    assert '"teacher.json" has detections in 4 of 4 training images' in said.replace(f'{here}/', '')
    assert re.search(method or 'method: (soft_ground_truth|prediction_rows), since', said)
    assert 'next: mmkd check my_pair.py' in said
    assert not Path('my_pair_teacher.py').exists()
    text = Path('my_pair.py').read_text()
    assert 'teacher.json teaches SSD on mine' in text and 'teacher_ckpt' not in text
    config = Config.fromfile('my_pair.py')
    assert config.model.teacher == f'{here}/teacher.json' and config.model.teacher_ckpt is None


def test_an_onnx_file_with_its_description_teaches_without_data(here, capsys):
    """Of a folder deeper: both are named from there."""
    onnx_model(here / 'det.onnx', dict(boxes=ROWS, scores=SCORES))
    told = {**TOLD, 'classes': ['ant', 'cat']}
    Path('det.json').write_text(json.dumps(told))
    words = ('det.onnx', 'alone.py', '--out', 'sub/my_pair.py')
    assert pair(*words) == 1
    assert 'or come with a description' in capsys.readouterr().err
    assert not Path('sub').exists()
    assert pair(*words, '--describe', 'dat.json') == 1
    assert 'must be a file in JSON, but "dat.json" cannot be read' in capsys.readouterr().err
    assert pair(*words, '--describe', 'det.json') == 0
    config = Config.fromfile('sub/my_pair.py')
    found = {key: str(Path(path).resolve()) for key, path in config.model.teacher.items()}
    assert found == dict(onnx=f'{here}/det.onnx', description=f'{here}/det.json')


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (('--data', 'mine', '--teacher-ckpt', 'ssd.py'), 'is known by its detections alone'),
        (('--data', 'mine', '--method', 'pkd'), 'needs more of the teacher than its detections'),
        (('--data', 'mine', '--method', 'cwd'), 'soft_ground_truth are met'),
        (('--data', 'mine', '--describe', 'x.json'), '--describe is for an ONNX file'),
        (('--data', 'mine', '--classes', 'ant', 'cat', '--force'), ''),
    ],
)
def test_what_such_a_teacher_does_not_do_is_told(here, capsys, words, message):
    done = pair('teacher.json', 'ssd.py', *OUT, *words)
    text = ' '.join(capsys.readouterr().err.split())
    assert (done == 0) == (not message) and message in text
    assert Path('my_pair.py').exists() == (not message)


def test_a_file_of_other_images_or_classes_is_refused(here, capsys):
    rows = json.loads(Path('teacher.json').read_text())
    told = dict(results=[row | dict(category_name='moth') for row in rows], classes=['moth'])
    for name, content, message in (
        ('images.json', [row | dict(image_id=999) for row in rows], 'none is: it has 999'),
        ('classes.json', told, r"the teacher's are (moth), and the student's (ant, bee, cat)"),
    ):
        Path(name).write_text(json.dumps(content))
        assert pair(name, 'ssd.py', '--data', 'mine', *OUT) == 1
        assert message in capsys.readouterr().err
        assert not Path('my_pair.py').exists()
    assert pair('none.json', 'ssd.py', '--data', 'mine', *OUT) == 1
    assert 'TEACHER must be an existing' in capsys.readouterr().err
