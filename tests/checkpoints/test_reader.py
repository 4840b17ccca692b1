"""Whatever the way in and the kind of file: named for what it is, read, and never run."""

import functools
import gzip
import io
import os
import pickle
import socket
import sys
import tarfile
import types
import zipfile
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mmengine.config import Config
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseModule
from mmengine.runner import checkpoint as zoo
from torch import nn

from mmkd.checkpoints import reader
from mmkd.checkpoints.detector_checkpoint import load_detector, read_checkpoint
from mmkd.checkpoints.foreign import LEGACY_MAGIC
from mmkd.checkpoints.reader import find_checkpoint, read_anything
from mmkd.checkpoints.ultralytics import CheckpointError
from mmkd.export.export_student import export_student
from mmkd.runner.resume import prepare_resume
from mmkd_cli.convert import convert
from tests.checkpoints.ultralytics.test_hostile import mutations
from tests.tiny import tiny_pair


def saved(content, **options) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def zipped(**files) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w') as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tarred(**files) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode='w') as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def tarred_under_torchs_magic(**files) -> bytes:
    """A tar whose first member is named by the first bytes of another format."""
    content = bytearray(tarred(**files))
    content[: len(LEGACY_MAGIC) + 2] = b'\x80\x02' + LEGACY_MAGIC
    content[148:156] = b' ' * 8
    content[148:156] = b'%06o\0 ' % sum(content[:512])
    return bytes(content)


WEIGHTS = {'state_dict': OrderedDict(weight=torch.ones(2, 3), bias=torch.ones(2)), 'meta': {}}

# A hostile file by each way in


class Attack:
    """Unpickling it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


#: What a file of each kind looks like, given the attack.
HOSTILE = {
    'zip': lambda attack: saved({**WEIGHTS, 'x': attack}),
    'zip, first of all': lambda attack: saved(attack),
    'legacy': lambda attack: saved({'x': attack}, _use_new_zipfile_serialization=False),
    'pickle': lambda attack: pickle.dumps({'x': attack}),
    'tar': lambda attack: tarred(sys_info=pickle.dumps(attack, 2), pickle=pickle.dumps(attack, 2)),
    'tar as legacy': lambda attack: tarred_under_torchs_magic(
        sys_info=pickle.dumps(attack, 2), pickle=pickle.dumps(attack, 2)
    ),
    'zip in zip': lambda attack: zipped(**{'a.pth': saved(attack)}),
    'yolov5': lambda attack: zipped(
        **{
            'a/data.pkl': b'\x80\x02}(X\x05\x00\x00\x00modelcmodels.yolo\nModel\n)\x81X\x03\x00\x00'
            b'\x00opt' + pickle.dumps(attack, 2)[2:-1] + b'u.'
        }
    ),
}
#: What a user names a checkpoint for, given its address and a folder.
WAYS = {
    'teacher_ckpt': lambda at, _: load_detector(nn.Linear(3, 2), at, 'teacher_ckpt'),
    'not strict': lambda at, _: load_detector(nn.Linear(3, 2), at, 'student_ckpt', strict=False),
    'resume': lambda at, folder: prepare_resume(Config(dict(work_dir=str(folder))), at),
    'load_from': lambda at, _: zoo.load_checkpoint(nn.Linear(3, 2), at, map_location='cpu'),
    'Runner, inferencers': lambda at, _: zoo._load_checkpoint(at),
    'backbones': lambda at, _: zoo.CheckpointLoader.load_checkpoint(at, logger=None),
    'init_cfg': lambda at, _: pretrained(checkpoint=at),
    'init_cfg with prefix': lambda at, _: pretrained(checkpoint=at, prefix='backbone'),
    'export': lambda at, folder: export_student(
        at, Config(dict(model=tiny_pair())), folder / 'out.pth'
    ),
    'convert': lambda at, folder: convert(at, folder / 'out.pth'),
}


def pretrained(**init_cfg):
    module = BaseModule(init_cfg=dict(type='Pretrained', **init_cfg))
    module.layer = nn.Linear(3, 2)
    module.init_weights()


@pytest.fixture
def addresses(site, cache, tmp_path, monkeypatch):
    """Every address under which mmengine finds the site's ``a.pth``, and a path."""
    names = {'a': f'{site.url}/a.pth'}
    for table in ('get_torchvision_models', 'get_external_models', 'get_mmcls_models'):
        monkeypatch.setattr(zoo, table, lambda: names)
    store = SimpleNamespace(get=lambda address: site.pages['a.pth'])
    monkeypatch.setattr(zoo, 'get_file_backend', lambda address, backend_args: store)
    cloud = types.ModuleType('pavi')
    download = SimpleNamespace(
        name='a.pth', download=lambda to: Path(to).write_bytes(site.pages['a.pth'])
    )
    cloud.modelcloud = SimpleNamespace(get=lambda _: download)
    monkeypatch.setitem(sys.modules, 'pavi', cloud)
    schemes = ('torchvision', 'modelzoo', 'open-mmlab', 'openmmlab', 'mmcls', 's3', 'pavi')
    return [
        str(tmp_path / 'a.pth'),
        f'{site.url}/a.pth',
        *(f'{scheme}://a' for scheme in (*schemes, 'petrel', 'open-mmlab:s3')),
    ]


@pytest.mark.parametrize('kind', HOSTILE)
def test_a_hostile_file_by_each_way_in(kind, addresses, site, cache, tmp_path):
    proof = tmp_path / 'ran'
    site.pages['a.pth'] = HOSTILE[kind](Attack(proof))
    (tmp_path / 'a.pth').write_bytes(site.pages['a.pth'])
    for way, load in WAYS.items():
        # how an address is resolved does not depend on who asks
        for address in addresses if way in ('not strict', 'load_from') else addresses[:2]:
            with pytest.raises(CheckpointError) as caught:
                load(address, tmp_path)
            check_text(str(caught.value))
            assert not proof.exists(), f'{way}: {address}'
    assert not (tmp_path / 'out.pth').exists()
    assert not [path for path in cache.rglob('*') if path.is_file()]


def test_each_way_in_is_open_to_a_sound_file(addresses, site, tmp_path):
    site.pages['a.pth'] = saved(WEIGHTS)
    (tmp_path / 'a.pth').write_bytes(site.pages['a.pth'])
    for way in ('teacher_ckpt', 'load_from', 'backbones'):
        for address in addresses:
            # mmengine takes the keys of a backbone alone from mmcls://
            if not (address.startswith('mmcls') and way == 'teacher_ckpt'):
                WAYS[way](address, tmp_path)


def test_the_checkpoint_that_last_checkpoint_names(tmp_path):
    (tmp_path / 'epoch_1.pth').write_bytes(saved(Attack(tmp_path / 'ran')))
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_1.pth'))
    with pytest.raises(ValueError, match=r'posix\.mkdir'):
        prepare_resume(Config(dict(work_dir=str(tmp_path))))
    assert not (tmp_path / 'ran').exists()


def test_a_scheme_of_the_users_own_stays(monkeypatch):
    monkeypatch.setattr(zoo.CheckpointLoader, '_schemes', dict(zoo.CheckpointLoader._schemes))
    zoo.CheckpointLoader.register_scheme('mine://', lambda filename, map_location: filename)
    assert zoo.CheckpointLoader._get_checkpoint_loader('mine://a')('mine://a', 'cpu') == 'mine://a'


# What is not a checkpoint


def check_text(text):
    """One line of ours: no control codes, none of torch's advice to read the file unsafely."""
    assert text.isprintable(), text
    for advice in ('weights_only', 'add_safe_globals', 'Please file', 'documentation of torch'):
        assert advice not in text


class Foreign:
    """Pickles as an object of a class of another program."""

    def __init__(self, name):
        self.name = name


def names(name):
    module, _, name = name.rpartition('.')
    return zipped(
        **{
            'a/data.pkl': f'\x80\x02}}X\x05\0\0\0modelc{module}\n{name}\n)\x81s.'.encode('latin1'),
            'a/version': b'3\n',
        }
    )


def array(**options):
    buffer = io.BytesIO()
    (np.savez if options else np.save)(buffer, np.ones(3))
    return buffer.getvalue()


FOREIGN = {
    'empty': (b'', 'is empty'),
    'text': (b'not a checkpoint', 'a text file'),
    'json': (b'{"a": 1}\n', 'a text file'),
    'html': (b'\n<!DOCTYPE html>\n<html></html>', 'an HTML page'),
    'xml': (b'<?xml version="1.0"?><net/>', 'an XML file'),
    'lfs': (b'version https://git-lfs.github.com/spec/v1\noid sha256:1\n', 'pointer of Git LFS'),
    'safetensors': (b'\x10\0\0\0\0\0\0\0{"a":{"dtype":"F32"}}', 'a safetensors file'),
    'onnx': (b'\x08\x08\x12\x07pytorch\x1a\x052.1.0:\x10\n\x0e', 'an ONNX model'),
    'onnx, no producer': (b'\x08\x07:\x80\x01\n\x0e\n\x01x', 'an ONNX model'),
    'hdf5': (b'\x89HDF\r\n\x1a\n\0\0', 'an HDF5 file'),
    'npy': (array(), 'a NumPy array'),
    'npz': (array(several=True), r'a NumPy archive \(.npz\)'),
    'tflite': (b'\x1c\0\0\0TFL3', 'a TensorFlow Lite model'),
    'gzip': (gzip.compress(saved(WEIGHTS)), 'a gzip archive'),
    'tar': (tarred(**{'a.pth': saved(WEIGHTS)}), 'a tar archive'),
    'zip': (zipped(**{'a.pth': saved(WEIGHTS)}), r'a zip archive of 1 files \(a.pth\)'),
    'torchscript': (
        zipped(**{'a/data.pkl': b'\x80\x02N.', 'a/constants.pkl': b'', 'a/code/x.py': b''}),
        'a TorchScript archive',
    ),
    'pickle': (pickle.dumps({'a': 1}), 'a plain pickle'),
    'endless': (
        zipped(**{'a/data.pkl': b'\x80\x02})' + b'q\0h\0\x86' * 60 + b'Ns.'}),
        'would take for ever to hash',
    ),
    'cut zip': (saved(WEIGHTS)[:-9], 'a zip archive that is damaged or cut short'),
    'yolov8': (names('ultralytics.nn.tasks.DetectionModel'), 'YOLOv8, YOLOv5u'),
    'segmentation': (names('models.yolo.SegmentationModel'), 'a YOLOv5 segmentation network'),
    'classifier': (names('models.yolo.ClassificationModel'), 'a YOLOv5 classifier'),
    'fork': (names('models.experimental.CBAM'), 'a network of a fork'),
    'network': (saved(nn.Linear(1, 1)), r'asks for torch.nn.modules.linear.Linear'),
    'terminal': (names('a\x1b[31mb.c'), 'asks for a'),
    'bytes': (b'\xff\x1b[2J\x00', r"starts with b'\\xff\\x1b"),
}


@pytest.mark.parametrize('name', FOREIGN)
def test_a_foreign_file_is_named_for_what_it_is(name, tmp_path):
    content, message = FOREIGN[name]
    for suffix in ('pth', 'pt', 'safetensors', 'onnx'):
        path = tmp_path / f'file.{suffix}'
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=f'teacher_ckpt must.*{message}') as caught:
            load_detector(nn.Linear(3, 2), str(path), 'teacher_ckpt')
        check_text(str(caught.value))
        assert str(path) in str(caught.value)


@pytest.mark.parametrize('size', [7, 4, 0])
def test_a_storage_of_another_size_than_the_pickle_says(size, tmp_path):
    path = tmp_path / 'a.pth'
    with zipfile.ZipFile(io.BytesIO(saved({'w': torch.ones(2)}))) as source:
        parts = {name: source.read(name) for name in source.namelist()}
    path.write_bytes(zipped(**{**parts, 'archive/data/0': bytes(size)}))
    with pytest.raises(CheckpointError, match=rf"a.pth.*storage '0' has {size} bytes for 2 elem"):
        read_checkpoint(str(path), 'teacher_ckpt')


def test_a_zip_that_swells(tmp_path):
    path = tmp_path / 'a.pth'
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('a/data.pkl', saved({})[:2])
        archive.writestr('a/data/0', bytes(1 << 24))
    with pytest.raises(CheckpointError, match='claims to hold far more than it can'):
        read_checkpoint(str(path), 'teacher_ckpt')


# What is no file


def test_what_is_no_regular_file_is_not_read(tmp_path):
    os.mkfifo(tmp_path / 'pipe.pth')
    (tmp_path / 'link.pth').symlink_to('pipe.pth')
    with socket.socket(socket.AF_UNIX) as listener:
        os.chdir(tmp_path)  # the path of a socket must be short
        listener.bind('socket.pth')
    for path, name in (
        ('pipe.pth', 'a pipe'),
        ('link.pth', 'a pipe'),
        ('socket.pth', 'a socket'),
        ('.', 'a folder'),
        ('/dev/zero', 'a device'),
    ):
        for way, load in WAYS.items():
            with pytest.raises(CheckpointError, match=f'regular file, but "{path}" is {name}'):
                load(path, tmp_path)
                pytest.fail(way)


def test_a_file_that_is_not_there(tmp_path):
    (tmp_path / 'dangling.pth').symlink_to('nothing')
    for path in ('dangling.pth', 'no.pth', 'no/such.pth', 'a\n\x1b[31m.pth', 'x' * 5000, 'a\0b'):
        with pytest.raises(FileNotFoundError, match='teacher_ckpt must be an existing') as caught:
            load_detector(nn.Linear(3, 2), f'{tmp_path}/{path}', 'teacher_ckpt')
        check_text(str(caught.value))


# What must load


@pytest.mark.parametrize('name', ['a.pth', 'a.pt', 'a.safetensors', 'a', 'ä ö.ckpt', 'a.pth.tar'])
@pytest.mark.parametrize('legacy', [False, True])
def test_the_ending_does_not_decide(name, legacy, tmp_path):
    path = tmp_path / name
    path.write_bytes(saved(WEIGHTS, _use_new_zipfile_serialization=not legacy))
    (tmp_path / 'link').symlink_to(path)
    for found in (path, tmp_path / 'link'):
        model = nn.Linear(3, 2)
        load_detector(model, str(found), 'teacher_ckpt')
        assert model.weight.eq(1).all()


def test_a_path_in_the_home(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    (tmp_path / 'a.pth').write_bytes(saved(WEIGHTS))
    assert find_checkpoint('~/a.pth') == tmp_path / 'a.pth'


def test_an_archive_that_was_compressed_since(tmp_path):
    path = tmp_path / 'a.pth'
    with (
        zipfile.ZipFile(io.BytesIO(saved(WEIGHTS))) as source,
        zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as target,
    ):
        for name in source.namelist():
            target.writestr(name, source.read(name))
    assert read_checkpoint(str(path))['state_dict']['bias'].tolist() == [1, 1]


def test_tensors_of_every_kind(tmp_path):
    content = {
        str(dtype): torch.zeros(3, dtype=dtype)
        for dtype in (torch.float64, torch.bfloat16, torch.complex64, torch.bool, torch.uint8)
    }
    content |= {
        'view': torch.ones(4, 4)[1:, ::2],
        'empty': torch.empty(0),
        'parameter': nn.Parameter(torch.ones(1)),
        'sparse': torch.eye(2).to_sparse(),
        'float8': torch.zeros(3).to(torch.float8_e4m3fn),
    }
    (tmp_path / 'a.pth').write_bytes(saved({'state_dict': content, ('a', 'tuple'): {1, 2}}))
    loaded = read_anything(tmp_path / 'a.pth')
    assert loaded['state_dict'].keys() == content.keys() and loaded['a', 'tuple'] == {1, 2}


@pytest.mark.parametrize(('digits', 'warned'), [('0123abcd', True), ('20220610', False)])
def test_a_local_file_whose_name_holds_another_hash(digits, warned, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(reader, 'print_log', lambda text, *_: said.append(text))
    path = tmp_path / f'a-{digits}.pth'
    path.write_bytes(saved(WEIGHTS))
    for _ in range(2):
        read_checkpoint(str(path))
    assert len(said) == warned and all('saved anew' in text for text in said)


@pytest.mark.parametrize('legacy', [False, True])
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_mutated_file_is_read_or_refused(legacy, data, tmp_path):
    path = tmp_path / 'a.pth'
    path.write_bytes(data.draw(mutations(intact(legacy))))
    try:
        read_anything(path, 'teacher_ckpt')
    except CheckpointError as error:
        check_text(str(error))


@functools.cache  # the old form holds addresses, which are longer or shorter in the next file
def intact(legacy):
    return saved({**WEIGHTS, 'log': history()}, _use_new_zipfile_serialization=not legacy)


def history():
    log = HistoryBuffer()
    log.update(1.5)
    return log
