"""``mmkd label`` writes over nothing that it reads."""

import json
import os
from pathlib import Path

import pytest

from mmkd.label import label_images
from mmkd.label.progress_file import ProgressFile
from tests.fileio.test_check_not_read import kept
from tests.label.test_label import CLASSES, bright, folder  # noqa: F401
from tests.teachers.test_outside_detectors import ROWS, SCORES, TOLD, model


def test_nothing_that_is_read_is_replaced(folder, monkeypatch):  # noqa: F811
    monkeypatch.chdir(folder)
    images = [dict(id=1, file_name='a.png'), dict(id=2, file_name='b.png')]
    Path('own.json').write_text(json.dumps(dict(images=images)))
    os.symlink('own.json', 'link.json')
    os.symlink('own.json', 'other.json.part')
    Path('list.txt').write_text('images/a.png\n')
    model('m.onnx', dict(boxes=ROWS, scores=SCORES))
    Path('m.json').write_text(json.dumps(TOLD))
    Path('c.py').write_text("_base_ = ['base.py']\n")
    Path('base.py').write_text('')
    before = kept(folder)
    described = dict(description='m.json', detector='m.onnx')
    for given, out, settings in (
        ('own.json', 'own.json', {}),
        ('own.json', 'link.json', {}),
        ('list.txt', 'list.txt', {}),
        ('images', 'images/a.png', {}),
        ('images', str(Path(__file__).with_name('test_label.py')), {}),  # of the function
        ('images', 'm.onnx', described),
        ('images', 'm.json', described),
        ('images', 'c.py', dict(detector='c.py', checkpoint='own.json')),
        ('images', 'base.py', dict(detector='c.py', checkpoint='own.json')),
        ('images', 'own.json', dict(detector='c.py', checkpoint='own.json')),
        ('own.json', 'other.json', {}),  # where the work would be kept
    ):
        told = dict(dict(detector=bright, classes=CLASSES), **settings)
        with pytest.raises(FileExistsError, match='is read'):
            label_images(images=given, out=out, overwrite=True, **told)
        assert kept(folder) == before


def test_an_image_that_broke_meanwhile_is_left_out(folder):  # noqa: F811
    """What was found in it before is not what is there."""
    progress = ProgressFile(folder / 't.json', {})
    progress.begin()
    for number in (1, 2):
        progress.add(dict(id=number, sha256=f'of {number}'), [])
    progress.close()
    again = ProgressFile(folder / 't.json', {})
    assert list(again.lines) == [1, 2]
    again.keep({1: 'of 1', 2: 'of another'})
    assert list(again.lines) == [1]
