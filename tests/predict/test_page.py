"""What docs/use_the_student.md says is done, at a small size."""

import json
import re
import shlex
import shutil
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
    'train mmkd::ssd_r18w32_digits.py': [*FAST, 'model.test_cfg.nms_pre=5'],
    'train mmkd::ssd_kd_r18_to_r18w8_digits.py': [
        *FAST,
        'model.architecture.test_cfg.nms_pre=5',
    ],
}


def test_the_page(tmp_path, monkeypatch, capsys):
    pytest.importorskip('sklearn', reason='the digits need it')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'excepthook', sys.excepthook)
    film(Path('film.mp4'), 1)
    lines = '\n'.join(re.findall(r'```bash\n(.*?)```', PAGE, re.S)).splitlines()
    commands = [shlex.split(line)[1:] for line in lines if line]
    assert [words[0] for words in commands] == ['data', 'train', 'train', 'predict', 'predict']
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
    capsys.readouterr()
    [block] = re.findall(r'```python\n(.*?)```', PAGE, re.S)
    names: dict = {}
    exec(block, names)
    assert len(capsys.readouterr().out.splitlines()) >= len(names['found']) > 0
    assert names['detect'](cv2.imread('data/digits/JPEGImages/val_00000.jpg')).classes[0] == 'zero'
