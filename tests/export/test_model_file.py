"""Hostile and damaged files: refused before anything of them is run."""

import json

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from mmkd_onnx import ModelFileError, load
from mmkd_onnx.model_file import KEY


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


def sparse_tensor(model):
    """A few bytes that stand for a tensor of 2 ** 60 numbers."""
    values = helper.make_tensor('v', TensorProto.FLOAT, [1], [1.0])
    indices = helper.make_tensor('i', TensorProto.INT64, [1], [0])
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [2**60]))


def sparse_constant(model):
    sparse_tensor(model)
    tensor = model.graph.sparse_initializer.pop()
    model.graph.node.append(helper.make_node('Constant', [], ['huge'], sparse_value=tensor))


def in_two_halves(model):
    """A tensor that protobuf joins: the first half says where, the second that it lies outside."""
    outside('../secret')(model)
    model.graph.initializer[0].ClearField('data_location')


def default_of_a_function(model):
    """Where no node of it names the tensor."""
    function = model.functions.add(name='f', domain='pkg.f')
    attribute = function.attribute_proto.add(name='a', type=onnx.AttributeProto.TENSOR)
    attribute.t.CopyFrom(model.graph.initializer[0])
    attribute.t.ClearField('raw_data')
    attribute.t.data_location = TensorProto.EXTERNAL
    attribute.t.external_data.add(key='location', value='../secret')


def second_input(model):
    model.graph.input.append(helper.make_tensor_value_info('more', TensorProto.FLOAT, [1]))


@pytest.mark.parametrize(
    ('change', 'match'),
    [
        (sparse_tensor, 'holds sparse tensors'),
        (sparse_constant, 'holds sparse tensors'),
        (in_two_halves, 'weights outside its folder'),
        (default_of_a_function, 'weights outside its folder'),
        (second_input, 'must have one input, the images, but .* has 2'),
        (metadata('thresholds', score=10**400), 'metadata out of all bounds'),
        (metadata('thresholds', peaks=dict(kernel=2, size=[34, 10])), 'out of all bounds'),
        (metadata('thresholds', peaks=dict(kernel=3, size=[7, 7])), 'out of all bounds'),
        (metadata('thresholds', peaks=dict(kernel=71, size=[34, 10])), 'out of all bounds'),
        (metadata('thresholds', offset=5), 'out of all bounds'),
        (metadata('preprocessing', clip=dict(square=False, divisor=0)), 'out of all bounds'),
        (metadata('thresholds', peaks=[3]), 'metadata that cannot be read'),
        (metadata('thresholds', instances=0), 'metadata out of all bounds'),
        (metadata('thresholds', factor=0.5), 'give boxes, scores, factors, or detections'),
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


def test_labels_that_are_none_are_told():
    """Numbers of a file may be anything; they must not become places in the classes."""
    from mmkd_onnx import Detector

    detect = Detector.__new__(Detector)
    detect.classes, detect._path = ('one', 'two'), 'hostile.onnx'
    for label in (2.0, np.inf):
        row = np.array([[0, 0, 4, 4, 0.9, label]], np.float32)
        with np.errstate(invalid='ignore'), pytest.raises(ModelFileError, match='of its 2 classes'):
            detect.detections([row], None)


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
