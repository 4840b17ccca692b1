"""Interrupted, ``mmkd label`` goes on with its own work, and with no other."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from mmkd.config.read_config import read_config
from mmkd.label import label_images
from mmkd.label.detectors import open_detector
from mmkd.label.progress_file import ProgressFile
from tests.fileio.test_check_not_read import kept
from tests.label.test_label import folder, read  # noqa: F401
from tests.predict.conftest import place  # noqa: F401
from tests.teachers.test_outside_detectors import ROWS, SCORES, TOLD, model


def constant(score=0.9, stop=99):
    """A function of the same name each time, whose closure decides what it finds."""
    calls, last = [], [stop]  # lists do not count

    def detect(images):
        calls.append(len(images))
        if len(calls) > last[0]:
            raise KeyboardInterrupt
        return [[[0, 0, 20, 20]]] * len(images), [[score]] * len(images), [[0]] * len(images)

    return detect


def begin(folder, detector, **settings):  # noqa: F811
    with pytest.raises(KeyboardInterrupt):
        label_images(detector, str(folder / 'images'), folder / 'teacher.json', **settings)


def test_work_of_other_settings_is_not_mixed_in(folder):  # noqa: F811
    """A function of another closure, other classes, another batch, and another list of images."""
    out, images = folder / 'teacher.json', str(folder / 'images')
    begin(folder, constant(stop=1), classes=['x', 'y'])
    part = (folder / 'teacher.json.part').read_text()
    for detector, settings, match in (
        (constant(0.2), dict(classes=['x', 'y']), 'differ in sha256'),
        (constant(), dict(classes=['y', 'x']), r"differ in classes \(\['x', 'y'\] there"),
        (constant(), dict(classes=['z']), 'differ in classes'),
        (constant(), dict(classes=['x', 'y'], batch=2), r'differ in batch \(1 there, 2 here\)'),
    ):
        with pytest.raises(FileExistsError, match=match):
            label_images(detector, images, out, **settings)
    cv2.imwrite(str(folder / 'images/0.png'), np.zeros((30, 40, 3), np.uint8))
    with pytest.raises(FileExistsError, match=r'differ in images \(3, sha256'):
        label_images(constant(), images, out, classes=['x', 'y'])
    assert not out.exists() and (folder / 'teacher.json.part').read_text() == part
    (folder / 'images/0.png').unlink()
    label_images(constant(), images, out, classes=['x', 'y'])
    assert [one['id'] for one in read(out)['images']] == [1, 2, 3]


def test_a_description_or_a_config_that_changed_is_other_work(folder, place):  # noqa: F811
    path = str(model(folder / 'm.onnx', dict(boxes=ROWS, scores=SCORES)))
    told = dict(TOLD, classes=['x', 'y'])
    first, again, order, form = (
        open_detector(path, description=one)
        for one in (
            told,
            {**told, 'pad': 114},
            {**told, 'classes': ['y', 'x']},
            {**told, 'box_form': 'xywh'},
        )
    )
    assert first.settings == again.settings and first.digest == form.digest
    assert first.settings != order.settings and first.settings != form.settings
    Path(f'{path}.data').write_bytes(b'weights')
    assert open_detector(path, description=told).settings != first.settings
    opened = open_detector(place.pair__py, place.epoch_1__pth)
    cfg = read_config(place.pair__py)
    student = cfg.model.architecture
    student.test_cfg.nms_pre = 7
    edited = folder / 'edited.py'
    cfg.dump(edited)
    other = open_detector(str(edited), place.epoch_1__pth)
    assert opened.digest == other.digest and opened.settings != other.settings


def test_drawing_goes_on_as_well(folder):  # noqa: F811
    """Images that were drawn are not in the way, those that were not are drawn, others stay."""
    out, drawn, settings = folder / 'teacher.json', folder / 'drawn', dict(classes=['x'])
    begin(folder, constant(stop=2), draw=drawn, **settings)
    assert len(list(drawn.rglob('*.png'))) == 2
    label_images(constant(), str(folder / 'images'), out, draw=drawn, **settings)
    assert len(list(drawn.rglob('*.png'))) == 3
    out.unlink()
    begin(folder, constant(stop=2), **settings)
    with pytest.raises(FileExistsError, match=r'a\.png'):
        label_images(constant(), str(folder / 'images'), out, draw=drawn, **settings)
    label_images(constant(), str(folder / 'images'), out, draw=folder / 'more', **settings)
    assert len(list((folder / 'more').rglob('*.png'))) == 3


def test_what_is_drawn_below_the_images_is_none_of_them(folder):  # noqa: F811
    out, drawn, settings = folder / 'teacher.json', folder / 'images/c', dict(classes=['x'])
    begin(folder, constant(stop=2), draw=drawn, **settings)
    label_images(constant(), str(folder / 'images'), out, draw=drawn, **settings)
    assert [one['file_name'] for one in read(out)['images']] == ['a.png', 'b.png', 'deep/c.png']
    globbed = [str(folder / 'images/**/*.png')]
    again = label_images(constant(), globbed, folder / 'g.json', draw=drawn / 'c', **settings)
    assert again.images == 6  # those of another folder are images as any
    last = label_images(
        constant(), globbed, folder / 'h.json', draw=drawn, overwrite=True, **settings
    )
    assert last.images == 3


def test_images_of_one_stem_are_drawn_apart(folder):  # noqa: F811
    """Each into a file of its own name, and none outside of the folder."""
    cv2.imwrite(str(folder / 'images/a.jpg'), np.zeros((30, 40, 3), np.uint8))
    cv2.imwrite(str(folder / 'outside.png'), np.zeros((30, 40, 3), np.uint8))
    names = ['a.png', 'a.jpg', '../outside.png', str(folder / 'images/b.png')]
    listed = [dict(id=i, file_name=name) for i, name in enumerate(names)]
    (folder / 'images/list.json').write_text(json.dumps(dict(images=listed)))
    before = kept(folder)
    drawn, settings = folder / 'drawn', dict(classes=['x'], root=str(folder / 'images'))
    label_images(
        constant(), str(folder / 'images/list.json'), folder / 't.json', draw=drawn, **settings
    )
    found = kept(folder)
    assert all(found[path] == content for path, content in before.items())
    made = sorted(str(path.relative_to(drawn)) for path in found if drawn in path.parents)
    own = str((folder / 'images/b.png').relative_to('/'))
    assert made == sorted(['a.jpg', 'a.png', 'outside.png', own])


def test_a_coco_file_loses_no_image(folder):  # noqa: F811
    """Two entries may name one file; two entries of one id are refused."""
    listed = [dict(id=i, file_name=name) for i, name in ((1, 'b.png'), (2, 'b.png'), (3, 'a.png'))]
    path, out = folder / 'images/list.json', folder / 't.json'
    path.write_text(json.dumps(dict(images=listed)))
    made = label_images(constant(), str(path), out, classes=['x'])
    found = read(out)
    assert made.images == 3 and [one['id'] for one in found['images']] == [1, 2, 3]
    assert [row['image_id'] for row in found['results']] == [1, 2, 3]
    path.write_text(json.dumps(dict(images=[*listed, dict(id=2, file_name='a.png')])))
    with pytest.raises(ValueError, match=r'image ids must differ.*1 does not: 2'):
        label_images(constant(), str(path), folder / 'other.json', classes=['x'])


def test_a_batch_stays_one(folder):  # noqa: F811
    """What a function finds in an image may follow from those beside it."""

    def torn(images):
        count = len(images)
        return [[[0, 0, 9, 9]]] * count, [[0.1 * count]] * count, [[0]] * count

    out, settings = folder / 'teacher.json', dict(classes=['x'], batch=2)
    label_images(torn, str(folder / 'images'), out, **settings)
    whole = read(out)
    assert [row['score'] for row in whole['results']] == [0.2, 0.2, 0.1]
    first, *lines = part_lines(folder, torn, settings)
    out.unlink()
    (folder / 'teacher.json.part').write_text(f'{first}\n{lines[0]}\n')
    label_images(torn, str(folder / 'images'), out, **settings)
    assert read(out) == whole


def part_lines(folder, detector, settings):  # noqa: F811
    """The lines of a finished work."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ProgressFile, 'remove', ProgressFile.close)
        label_images(
            detector, str(folder / 'images'), folder / 'teacher.json', overwrite=True, **settings
        )
    return (folder / 'teacher.json.part').read_text().splitlines()
