"""The runtime of exported files: without torch, from hostile files, on pixels as cv2 makes them."""

import json
import subprocess
import sys

import cv2
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.dataset import Compose
from mmengine.registry import DefaultScope
from onnx import TensorProto, helper

from mmkd.checkpoints.preprocessing import Preprocessing
from mmkd.export.export_onnx import make_files
from mmkd.export.input_rule import input_rule
from mmkd_onnx import ModelFileError, load
from mmkd_onnx.model_file import KEY
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


@pytest.fixture(scope='session')
def exported(opened_ssd, tmp_path_factory):
    file = tmp_path_factory.mktemp('exported') / 'student.onnx'
    file.write_bytes(make_files(opened_ssd).content)
    return file


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
    ],
)
def test_what_is_no_image_is_named(exported, image, match):
    with pytest.raises(ValueError, match=match):
        load(exported)(image)


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


def changed(exported, tmp_path, change):
    model = onnx.load(str(exported))
    change(model)
    file = tmp_path / 'folder' / 'changed.onnx'
    file.parent.mkdir()
    file.write_bytes(model.SerializeToString())
    return file


def outside(location, offset='0', length='4'):
    def change(model):
        tensor = model.graph.initializer[0]
        tensor.ClearField('raw_data')
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (('location', location), ('offset', offset), ('length', length)):
            tensor.external_data.add(key=key, value=value)

    return change


def metadata(key='preprocessing', /, **changes):
    def change(model):
        [entry] = [p for p in model.metadata_props if p.key == KEY]
        told = json.loads(entry.value)
        (told[key] if key else told).update(changes)
        entry.value = json.dumps(told)

    return change


def huge_tensor(model):
    model.graph.initializer[0].dims[:] = [2**40, 2**20]


def huge_constant(model):
    shape = helper.make_tensor('huge', TensorProto.INT64, [3], [2**20, 2**20, 2**20])
    model.graph.initializer.append(shape)
    model.graph.node.append(helper.make_node('ConstantOfShape', ['huge'], ['memory']))


def hidden_tensor(model):
    """In the branch of a node."""
    tensor = helper.make_tensor('far', TensorProto.FLOAT, [1], [0.0])
    outside_tensor = onnx.TensorProto()
    outside_tensor.CopyFrom(tensor)
    outside_tensor.ClearField('float_data')
    outside_tensor.data_location = TensorProto.EXTERNAL
    outside_tensor.external_data.add(key='location', value='../secret')
    branch = helper.make_graph([], 'branch', [], [], [outside_tensor])
    node = helper.make_node('If', ['x'], ['y'], then_branch=branch, else_branch=branch)
    model.graph.node.append(node)


@pytest.mark.parametrize(
    ('change', 'match'),
    [
        (outside('../secret'), r'weights outside its folder \("\.\./secret"\)'),
        (outside('/etc/passwd'), 'weights outside its folder'),
        (outside('link'), 'weights outside its folder'),
        (outside(''), 'weights outside its folder'),
        (outside('lost'), 'which is not there'),
        (outside('near', '0', str(2**40)), 'asks for more weights than "near" holds'),
        (outside('near', '-5'), 'asks for more weights'),
        (hidden_tensor, 'weights outside its folder'),
        (huge_tensor, 'claims a tensor of shape'),
        (huge_constant, 'asks for a tensor of'),
        (metadata(size=[2**30, 2**30]), 'metadata out of all bounds'),
        (metadata(size=[64]), 'metadata out of all bounds'),
        (metadata(steps=[dict(step='run', scale=[1, 1])]), 'metadata out of all bounds'),
        (metadata(steps=None), 'metadata that cannot be read'),
        (metadata(steps=[dict(step='resize', scale=[8, 8])]), 'metadata that cannot be read'),
        (metadata(padding=['a', 'b', 'c']), 'metadata out of all bounds'),
        (metadata('thresholds', iou='high'), 'metadata out of all bounds'),
        (metadata('thresholds', levels=[-1]), 'metadata out of all bounds'),
        (metadata('thresholds', levels=[7]), r'must fit its metadata, 3 classes and 7 rows'),
        (metadata('', datasets=[dict(data_root=1)]), 'metadata that cannot be read'),
        (metadata('', classes=['one']), 'must fit its metadata, 1 classes and 340 rows'),
        (metadata(size=[32, 32]), r'must take \(N, 3, 32, 32\)'),
        (lambda model: model.metadata_props.pop(), 'has no metadata'),
        (lambda model: setattr(model.graph.node[0], 'domain', 'evil'), 'operators of "evil"'),
        (lambda model: setattr(model.graph.node[0], 'op_type', 'Nothing'), 'onnxruntime .* says'),
    ],
)
def test_a_hostile_file_is_refused(exported, tmp_path, change, match):
    (tmp_path / 'secret').write_bytes(bytes(64))
    file = changed(exported, tmp_path, change)
    (file.parent / 'near').write_bytes(bytes(64))
    (file.parent / 'link').symlink_to(tmp_path / 'secret')
    with pytest.raises(ModelFileError, match=match):
        load(file)


def test_weights_beside_the_file_are_taken(exported, tmp_path, ssd):
    """As a tool may lay them out: in the same folder."""
    model = onnx.load(str(exported))
    file = tmp_path / 'laid_out.onnx'
    onnx.save(model, str(file), save_as_external_data=True, location='w.bin', size_threshold=0)
    image = ssd.parent / 'images/1.png'
    assert np.allclose(load(file)(image).boxes, load(exported)(image).boxes)


@pytest.mark.parametrize('content', [b'', b'PK\x03\x04', b'\x08', b'\xff' * 40, b'not a model'])
def test_what_is_no_onnx_file_is_refused(tmp_path, content):
    file = tmp_path / 'student.onnx'
    file.write_bytes(content)
    with pytest.raises(ModelFileError, match='must be a file that mmkd export'):
        load(file)


@settings(max_examples=100)
@given(st.data())
def test_a_damaged_file_is_refused_or_read(exported, tmp_path_factory, data):
    """Whatever the byte: an error of ours, or a detector."""
    from mmkd_onnx.model_file import read_file

    content = bytearray(exported.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place_at = data.draw(st.integers(0, min(len(content) - 1, 4000)))
        content[place_at] = data.draw(st.integers(0, 255))
    file = tmp_path_factory.getbasetemp() / 'damaged.onnx'
    file.write_bytes(content[: data.draw(st.integers(1, len(content)))])
    try:
        read_file(file)
    except ModelFileError as error:
        assert 'must be a file' in str(error)


def test_there_must_be_a_file(tmp_path):
    with pytest.raises(FileNotFoundError, match='there is no'):
        load(tmp_path / 'no.onnx')
