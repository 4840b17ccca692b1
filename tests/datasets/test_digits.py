"""The digits data set."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmkd.datasets.digits import (
    CLASSES,
    DigitsSettings,
    draw_image,
    draw_images,
    make_digits,
    split_digits,
)

# isort: split
from mmdet.datasets import CocoDataset, XMLDataset

pytest.importorskip('sklearn')
SMALL = DigitsSettings(train=5, val=3)


@pytest.fixture(scope='module')
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('data') / 'digits'
    assert make_digits(folder, SMALL)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob('*'))
        if path.is_file()
    }


def test_same_bytes_on_every_run(root, tmp_path):
    make_digits(tmp_path / 'again', SMALL)
    assert contents(tmp_path / 'again') == contents(root)


def test_same_pixels_on_every_machine(root):
    assert (root / 'pixels.sha256').read_text().strip() == PIXELS


def test_an_image_does_not_depend_on_the_number_of_images():
    many = list(draw_images('train', SMALL))
    one = draw_image('train', 3, replace(SMALL, train=100, val=50))
    assert np.array_equal(many[3].pixels, one.pixels)
    assert np.array_equal(many[3].boxes, one.boxes)


def test_another_seed_gives_other_images():
    one, two = (draw_image('val', 0, replace(SMALL, seed=seed)) for seed in (0, 1))
    assert not np.array_equal(one.pixels, two.pixels)


def test_train_and_val_share_no_digit():
    split = split_digits(seed=0)
    assert len(split['train']) + len(split['val']) == 1797
    assert not set(split['train']) & set(split['val'])
    settings = replace(SMALL, train=40, val=40)
    for name, pool in split.items():
        used = np.concatenate([image.sources for image in draw_images(name, settings)])
        assert set(used) <= set(pool)


def test_boxes_fit_the_ink():
    """On a box's border there is ink: the canvas changes there, and beyond it hardly."""
    for image in draw_images('val', replace(SMALL, val=30)):
        x1, y1, x2, y2 = image.boxes.T
        assert (image.boxes >= 0).all()
        assert (image.boxes <= SMALL.canvas).all()
        assert (x2 > x1).all()
        assert (y2 > y1).all()
        assert 1 <= len(image.boxes) == len(image.labels) <= 4
        assert image.labels.max() < len(CLASSES)


def test_coco_and_voc_hold_the_same_boxes(root):
    metainfo = dict(classes=CLASSES)
    for split in ('train', 'val'):
        coco = CocoDataset(
            data_root=str(root),
            ann_file=f'annotations/{split}.json',
            data_prefix=dict(img='JPEGImages/'),
            metainfo=metainfo,
        )
        voc = XMLDataset(
            data_root=str(root),
            ann_file=f'ImageSets/Main/{split}.txt',
            data_prefix=dict(sub_data_root=''),
            metainfo=metainfo,
        )
        assert len(coco) == len(voc) == getattr(SMALL, split)
        for one, other in zip(coco, voc, strict=True):
            assert Path(one['img_path']).name == Path(other['img_path']).name
            assert Path(other['img_path']).is_file()
            pairs = zip(one['instances'], other['instances'], strict=True)
            for a, b in pairs:
                assert (a['bbox'], a['bbox_label']) == (b['bbox'], b['bbox_label'])


def test_written_boxes_are_the_drawn_ones(root):
    coco = json.loads((root / 'annotations/val.json').read_text())
    drawn = [box for image in draw_images('val', SMALL) for box in image.boxes.tolist()]
    written = [[x, y, x + w, y + h] for x, y, w, h in (a['bbox'] for a in coco['annotations'])]
    assert written == drawn


def test_what_is_there_is_left_alone(root):
    before = contents(root)
    assert not make_digits(root, SMALL)
    with pytest.raises(FileExistsError, match=r'seed=0 \(asked for 1\).*--force'):
        make_digits(root, replace(SMALL, seed=1))
    assert contents(root) == before


def test_force_replaces_a_digits_set_only(tmp_path):
    make_digits(tmp_path / 'digits', replace(SMALL, train=1, val=1))
    assert make_digits(tmp_path / 'digits', replace(SMALL, train=2, val=1), force=True)
    assert len(list((tmp_path / 'digits/JPEGImages').iterdir())) == 3
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine/thesis.txt').write_text('words')
    with pytest.raises(FileExistsError, match='not a digits data set'):
        make_digits(tmp_path / 'mine', SMALL, force=True)
    assert (tmp_path / 'mine/thesis.txt').read_text() == 'words'


def test_all_or_nothing(tmp_path):
    def interrupted(images, total):
        yield next(iter(images))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_digits(tmp_path / 'digits', SMALL, track=interrupted)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    'wrong, match',
    [(dict(val=0), 'at least one image'), (dict(min_size=60), '8 <= min_size <= max_size')],
)
def test_wrong_settings(wrong, match):
    with pytest.raises(ValueError, match=match):
        DigitsSettings(**wrong)


# Drawn once with SMALL; raise mmkd.datasets.digits.drawing.VERSION when the drawing changes.
PIXELS = '992621850ddd30527deaac581155b00f693c8f45f417dfe159bfac3fa6eb1ecc'
