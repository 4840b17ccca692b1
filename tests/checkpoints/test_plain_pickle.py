"""Annotations, proposals, results and configs in pickles and YAML: read as data, never run."""

import copyreg
import datetime
import os
import pickle
from collections import Counter, OrderedDict, defaultdict, deque
from pathlib import Path

import mmengine
import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config, ConfigDict
from mmengine.structures import BaseDataElement, InstanceData

from mmkd.checkpoints.plain_pickle import PlainFileError


class Attack:
    """Unpickling it makes a folder."""

    def __init__(self, path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def read(tmp_path, value, protocol: int = 2):
    path = tmp_path / 'a.pkl'
    path.write_bytes(pickle.dumps(value, protocol))
    return mmengine.load(str(path))


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(),
    st.binary(),
    st.frozensets(st.integers()),
    st.datetimes(),
    st.complex_numbers(allow_nan=False),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner),
        st.lists(inner).map(tuple),
        st.lists(inner).map(deque),
        st.dictionaries(st.text(), inner),
        st.dictionaries(st.text(), inner).map(OrderedDict),
        st.dictionaries(st.text(), inner).map(lambda items: defaultdict(list, items)),
        st.sets(st.text()),
        st.sets(st.text()).map(Counter),
    ),
    max_leaves=8,
)


@settings(max_examples=80)
@given(VALUES, st.integers(0, 5))
def test_data_comes_back(tmp_path_factory, value, protocol):
    found = read(tmp_path_factory.getbasetemp(), value, protocol)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize('protocol', range(6))
def test_arrays_tensors_and_results_come_back(tmp_path, protocol):
    boxes = np.arange(8, dtype=np.float32).reshape(2, 4)
    arrays = [boxes, boxes.T, boxes[:0], np.array(['a', 'bcd']), np.float64(1.5), np.bool_(True)]
    for array in arrays:
        found = read(tmp_path, dict(a=array), protocol)['a']
        assert np.array_equal(found, array) and found.dtype == array.dtype
    tensor = torch.arange(6.0).reshape(2, 3)
    found = read(tmp_path, [tensor, tensor.t(), tensor.half(), tensor.long()[1:]], protocol)
    assert torch.equal(found[1], tensor.t()) and found[2].dtype == torch.float16
    assert torch.equal(found[3], tensor.long()[1:])
    instances = InstanceData(bboxes=boxes, scores=torch.ones(2))
    sample = DetDataSample(metainfo=dict(img_path='a.jpg', size=torch.Size([1]), p=Path('a/b')))
    sample.pred_instances = instances
    sample.gt_instances = InstanceData(
        bboxes=HorizontalBoxes(torch.ones(2, 4)), masks=BitmapMasks(np.ones((2, 3, 4)), 3, 4)
    )
    found = read(tmp_path, {'a.jpg': sample, 'c': ConfigDict(a=[dict(b=1)])}, protocol)
    assert type(found['a.jpg']) is DetDataSample and found['a.jpg'].p == Path('a/b')
    assert np.array_equal(found['a.jpg'].pred_instances[1:].bboxes, boxes[1:])
    assert found['a.jpg'].gt_instances.bboxes.areas.tolist() == [0, 0]
    assert found['a.jpg'].gt_instances.masks.areas.tolist() == [12, 12]
    assert found['c'].a[0].b == 1


def test_what_would_be_run_is_refused(tmp_path):
    ran = tmp_path / 'ran'
    for value in (Attack(ran), dict(a=[Attack(ran)]), BaseDataElement(x=Attack(ran))):
        for protocol in range(6):
            with pytest.raises(PlainFileError, match=r'asks for (posix|nt)\.mkdir.*Nothing of it'):
                read(tmp_path, value, protocol)
    content = b'\x80\x02ctorch.storage\n_load_from_bytes\n'
    hostile = pickle.dumps(pickle.dumps(Attack(ran), 2), 3)[2:-1]
    for pickled in (
        content + hostile + b'\x85R.',
        b'cbuiltins\neval\n(X\x01\0\0\x001tR.',
        b'cbuiltins\ngetattr\n.',
        b'cmmengine.structures.instance_data\nos.system\n.',
        b'cmmdet.structures.det_data_sample\nDetDataSample\nN}X\x01\0\0\0xK\x01s\x86b.',
        b'cnumpy\nndarray\nN}X\x01\0\0\0xK\x01s\x86b.',
        b'cbuiltins\nlist\nX\x01\0\0\0x\x85R.',
        b'ccollections\ndefaultdict\nc_codecs\nencode\n\x85R.',
        b'ccopyreg\n_reconstructor\ncbuiltins\nint\ncbuiltins\nobject\nN\x87R.',
    ):
        (tmp_path / 'a.pkl').write_bytes(pickled)
        with pytest.raises((PlainFileError, pickle.UnpicklingError, TypeError, AttributeError)):
            mmengine.load(str(tmp_path / 'a.pkl'))
    assert not ran.exists() and not hasattr(DetDataSample, 'x')
    assert copyreg._reconstructor  # the real one is left alone


def test_yaml_is_data(tmp_path):
    path = tmp_path / 'a.yaml'
    value = dict(a=(1, 2.5), b=[None, True, 'x'], c=dict(d=datetime.date(2020, 1, 2)))
    mmengine.dump(value, str(path))
    assert mmengine.load(str(path)) == value
    path.write_text('a: !!python/str b\nc: !!python/unicode d\ne: !!python/int 3\n')
    assert mmengine.load(str(path)) == dict(a='b', c='d', e=3)
    for tag in ('object/apply:os.mkdir', 'object/new:os.mkdir', 'name:os.mkdir', 'module:os'):
        path.write_text(f'a: 1\nb: !!python/{tag} [{tmp_path}/ran]\n')
        for load in (mmengine.load, Config.fromfile):
            with pytest.raises(PlainFileError, match=r'line 2 asks for more.*Nothing of it was'):
                load(str(path))
    path.write_text('a: !unknown 1\n')
    with pytest.raises(yaml.YAMLError, match='unknown'):
        mmengine.load(str(path))
    assert not (tmp_path / 'ran').exists()
