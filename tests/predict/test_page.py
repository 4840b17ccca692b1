"""What docs/use_the_student.md says is done, at a small size."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
from pycocotools.coco import COCO

from mmkd_cli.main import main
from tests.predict.conftest import PLAIN
from tests.predict.test_predict import decoded, film
from tests.tiny import ROOT

WHOLE = (ROOT / 'docs/use_the_student.md').read_text()
#: What tests/export/test_int8_page.py runs is left out.
PAGE = re.sub(r'\n## Quantise\n.*?(?=\n## |\Z)', '', WHOLE, flags=re.S)

#: Added to the commands of the page, so that they take seconds. Untrained detectors find thousands
#: of boxes, of which fewer are kept.
FAST = ['--cfg-options', 'train_cfg.max_epochs=1', 'train_dataloader.batch_size=2']
SMALLER = {
    'data digits': ['--train', '4', '--val', '2'],
    'benchmark work_dirs/ssd_kd_r18_to_r18w8_digits/student.pth': ['--rounds', '2'],
    'train mmkd::ssd_r18w32_digits.py': [*FAST, 'model.test_cfg.nms_pre=5'],
    'train mmkd::ssd_kd_r18_to_r18w8_digits.py': [
        *FAST,
        'model.architecture.test_cfg.nms_pre=5',
    ],
}


#: Where no torch can be imported.
WITHOUT_TORCH = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in ('torch', 'mmkd', 'mmdet', 'mmengine', 'mmcv', 'onnx'):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Refuse())
"""


def test_the_page(tmp_path, monkeypatch, capsys):
    pytest.importorskip('sklearn', reason='the digits need it')
    for package in ('onnx', 'onnxruntime'):
        pytest.importorskip(package, reason='of the extra "export"')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'excepthook', sys.excepthook)
    film(Path('film.mp4'), 1)
    text = '\n'.join(re.findall(r'```bash\n(.*?)```', PAGE, re.S)).replace('\\\n', '')
    commands = [shlex.split(line)[1:] for line in text.splitlines() if line]
    told = 'data train train predict predict export predict benchmark'
    assert [words[0] for words in commands] == told.split()
    with PLAIN:
        for words in commands:
            assert main([*words, *SMALLER.get(' '.join(words[:2]), [])]) == 0
            first = Path('work_dirs/ssd_r18w32_digits/epoch_1.pth')
            if first.is_file():
                shutil.copy(first, first.with_name('epoch_5.pth'))  # the end, as the page has it
    assert len(list(Path('drawn').iterdir())) == 6
    assert len(decoded(Path('drawn_film/film.mp4'))) == 1
    rows = json.loads(Path('found.json').read_text())
    truth = COCO('data/digits/annotations/val.json')
    known = {image['file_name']: image['id'] for image in truth.dataset['images']}
    own = [row for row in rows if row['file_name'] in known]
    assert own and all(row['image_id'] == known[row['file_name']] for row in own)
    truth.loadRes(own)
    by_the_file = json.loads(Path('found_by_the_file.json').read_text())
    ids = [{(row['file_name'], row['image_id']) for row in one} for one in (by_the_file, rows)]
    assert ids[0] and ids[0] <= ids[1]
    assert json.loads(Path('student.parity.json').read_text())['passed']
    roles = [one['role'] for one in json.loads(Path('costs.json').read_text())['detectors']]
    assert roles == ['Teacher', 'Student'] and Path('costs.png').is_file()
    capsys.readouterr()
    alone, block = re.findall(r'```python\n(.*?)```', PAGE, re.S)
    command = [sys.executable, '-c', WITHOUT_TORCH + alone]
    path = {**os.environ, 'PYTHONPATH': str(ROOT)}
    found = subprocess.run(command, env=path, capture_output=True, text=True, check=True).stdout
    assert re.match(r'\d+ \w+', found)
    names: dict = {}
    exec(block, names)
    assert len(capsys.readouterr().out.splitlines()) >= len(names['found']) > 0
    assert names['detect'](cv2.imread('data/digits/JPEGImages/val_00000.jpg')).classes[0] == 'zero'
