"""The runtime of exported files: without torch, from hostile files, on pixels as cv2 makes them."""

import json
import struct
import subprocess
import sys
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmcv.transforms import LoadImageFromFile
from mmengine.dataset import Compose
from mmengine.registry import DefaultScope
from PIL import Image

from mmkd.checkpoints.preprocessing import Preprocessing
from mmkd.export.input_rule import input_rule
from mmkd_onnx import load
from mmkd_onnx.image_file import read_image
from mmkd_onnx.preparation import place
from tests.export.conftest import pipeline
from tests.tiny import ROOT

ALONE = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in ('torch', 'mmkd', 'mmdet', 'mmengine', 'mmcv', 'onnx'):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Refuse())
import json
from mmkd_onnx import load
found = load(sys.argv[1])(sys.argv[2])
assert 'torch' not in sys.modules
print(json.dumps([found.boxes.tolist(), found.scores.tolist(), found.names]))
"""


def test_it_runs_where_there_is_no_torch(exported, ssd):
    image = ssd.parent / 'images/0.png'
    command = [sys.executable, '-c', ALONE, exported, image]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    boxes, scores, names = json.loads(told.stdout)
    found = load(exported)(image)
    assert len(found) > 5 and names == found.names
    assert boxes == found.boxes.tolist() and scores == found.scores.tolist()


def test_the_file_says_what_it_is(exported, opened_ssd):
    detect = load(exported)
    told = detect.metadata.told
    assert detect.classes == ('one', 'two', 'three') and detect.size == (64, 64)
    assert told['preprocessing']['steps'] == [
        dict(
            step='resize',
            scale=[64, 64],
            keep_ratio=True,
            interpolation='bilinear',
            within=[64, 64],
        )
    ]
    # (120, 110, 100) is red, green and blue, by which the padding becomes 0.
    assert told['preprocessing']['padding'] == [100, 110, 120]
    assert told['preprocessing']['channels'] == 'BGR'
    assert told['thresholds']['iou'] == 0.45 and len(told['weights_sha256']) == 64
    assert told['version'] and told['head'] == 'SSDHead'
    assert [i.shape for i in detect.session.get_inputs()] == [['batch', 3, 64, 64]]
    assert [(o.name, o.shape) for o in detect.session.get_outputs()] == [
        ('boxes', ['batch', 340, 4]),
        ('scores', ['batch', 340, 3]),
    ]


def test_a_batch_finds_what_single_images_do(exported, ssd):
    detect = load(exported, threads=1)
    images = [ssd.parent / f'images/{i}.png' for i in range(4)]
    for together, alone in zip(detect(images, batch=3), map(detect, images), strict=True):
        assert np.allclose(together.boxes, alone.boxes, atol=1e-3)
        assert (together.labels == alone.labels).all()
    grey = cv2.imread(str(images[0]), cv2.IMREAD_GRAYSCALE)
    assert len(detect(grey).scores) == len(detect(grey[..., None].repeat(3, 2)).scores)
    assert detect(images[0]).above(2.0).summary() == 'nothing'


@pytest.mark.parametrize(
    ('image', 'match'),
    [
        ('no.png', '"no.png" is not'),
        (np.zeros((4, 4, 3)), 'got float64 of shape'),
        (np.zeros((4, 4, 2), np.uint8), r'got uint8 of shape \(4, 4, 2\)'),
        (np.zeros((0, 4, 3), np.uint8), 'of shape'),
        (np.zeros(4, np.uint8), r'of shape \(4,\)'),
        (np.zeros((1, 4000, 3), np.uint8), r'a row and a column left .* but got 1 x 4000'),
    ],
)
def test_what_is_no_image_is_named(exported, image, match):
    with pytest.raises(ValueError, match=match):
        load(exported)(image)


def test_an_image_of_too_many_pixels_is_named(exported, tmp_path):
    """OpenCV raises an error of its own for a header that claims 2 ** 32 of them."""
    whole = cv2.imencode('.png', np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    header = b'IHDR' + struct.pack('>II', 2**16, 2**16) + whole[24:29]
    claimed = whole[:12] + header + struct.pack('>I', zlib.crc32(header)) + whole[33:]
    (tmp_path / 'bomb.png').write_bytes(claimed)
    with pytest.raises(ValueError, match=r'must be a file that OpenCV can read, but ".*bomb\.png"'):
        load(exported)(tmp_path / 'bomb.png')


@pytest.mark.parametrize('kind', ['jpg', 'png', 'tif', 'webp'])
def test_an_image_is_turned_as_by_the_loader(tmp_path, kind):
    file = str(tmp_path / f'a.{kind}')
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, exif=exif)
    own = LoadImageFromFile()(dict(img_path=file))['img']
    np.testing.assert_array_equal(read_image(file), own)


def test_a_jpeg_that_breaks_off_is_named(exported, tmp_path):
    """OpenCV would fill it up with grey."""
    content = cv2.imencode('.jpg', np.zeros((64, 64, 3), np.uint8))[1].tobytes()
    (tmp_path / 'half.jpg').write_bytes(content[:-9])
    with pytest.raises(ValueError, match=r'half\.jpg" is not \(the JPEG breaks off after'):
        load(exported)(tmp_path / 'half.jpg')


@settings(max_examples=60)
@given(
    kind=st.sampled_from(['ratio', 'stretch', 'yolo']),
    shape=st.tuples(st.integers(2, 150), st.integers(2, 150)),
    scale=st.sampled_from([(64, 64), (96, 64), (50, 70)]),
    up=st.booleans(),
)
def test_pixels_are_those_of_the_pipeline(kind, shape, scale, up):
    """mmdet's Resize, MMYOLO's two: the same pixels in the same place."""
    steps = pipeline(kind)[1:]
    for step in steps:
        if 'scale' in step:
            step['scale'] = scale
        if 'allow_scale_up' in step:
            step['allow_scale_up'] = up
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    if kind == 'ratio' and not all(round(side) for side in shape):
        return
    ratio = min(max(scale) / max(shape), min(scale) / min(shape))
    if kind != 'stretch' and min(shape) * ratio < 1:  # OpenCV makes no image without pixels
        return
    rule = input_rule(dict(test_pipeline=steps), Preprocessing())
    found = place(image, rule)
    shown = dict(img=image, img_path='', img_id=0, img_shape=shape, ori_shape=shape)
    with DefaultScope.overwrite_default_scope('mmyolo' if kind == 'yolo' else 'mmdet'):
        own = Compose([s for s in steps if 'LoadAnnotations' not in s['type']])(shown)
    height, width = own['inputs'].shape[1:]
    assert (found.pixels[:, :height, :width] == own['inputs'].numpy()).all()
    if kind != 'yolo':
        assert np.allclose(found.scale, own['data_samples'].scale_factor)
    corners = np.array([[0.0, 0.0, shape[1], shape[0]]])
    inside = corners * np.tile(found.scale, 2) + np.tile(found.offset, 2)
    assert np.allclose(found.back(inside), corners, atol=1e-3)
