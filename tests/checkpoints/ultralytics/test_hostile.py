"""Files that mean harm, or are damaged: refused with mmkd's own error, and nothing runs."""

import contextlib
import functools
import io
import operator
import os
import pickle
import struct
import subprocess
import zipfile

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmkd.checkpoints.ultralytics import (
    CheckpointError,
    convert_yolov5,
    is_yolov5_file,
    read_yolov5_file,
)
from mmkd.checkpoints.ultralytics.inert_objects import Bag, StorageRef, TensorRef
from mmkd.checkpoints.ultralytics.inert_pickle import read_pickle
from mmkd.checkpoints.ultralytics.torch_archive import TorchArchive
from tests.checkpoints.ultralytics.ultralytics_like import make_network, save

COMMAND = 'touch /tmp/mmkd_was_here'


class Call:
    """Pickles as a call of any callable."""

    def __init__(self, function, *args, state=None):
        self.parts = (function, args) if state is None else (function, args, state)

    def __reduce__(self):
        return self.parts


CALLS = {
    'os.system': Call(os.system, COMMAND),
    'os.popen': Call(os.popen, COMMAND),
    'os.execv': Call(os.execv, '/bin/true', ['true']),
    'subprocess.Popen': Call(subprocess.Popen, COMMAND, 0, None, None, None, None, None, True),
    'subprocess.check_output': Call(subprocess.check_output, [COMMAND]),
    'builtins.eval': Call(eval, '__import__("os").system("true")'),
    'builtins.exec': Call(exec, 'import os'),
    'builtins.compile': Call(compile, '1', 'x', 'eval'),
    'builtins.__import__': Call(__import__, 'this'),
    'builtins.open': Call(open, '/tmp/mmkd_was_here', 'w'),
    'builtins.getattr': Call(getattr, 'text', 'format'),
    'builtins.setattr': Call(setattr, 'text', 'a', 1),
    'functools.partial': Call(functools.partial, os.system, COMMAND),
    'operator.attrgetter': Call(operator.attrgetter('system').__class__, 'system'),
    'pickle.loads': Call(pickle.loads, b'.'),
    'torch.load': Call(torch.load, 'x.pt'),
    'torch.hub.load': Call(torch.hub.load, 'x', 'y'),
    'torch.serialization.load': Call(torch.serialization.load, 'x.pt'),
    'torch.jit._serialization.load': Call(torch.jit.load, 'x.pt'),
    'torch.Tensor': Call(torch.Tensor, 1),
}


@contextlib.contextmanager
def refused(nothing_runs, match=None):
    # The guard is inside: pytest.raises itself may import.
    with pytest.raises(CheckpointError, match=match), nothing_runs():
        yield
    assert not os.path.exists('/tmp/mmkd_was_here')


@pytest.mark.parametrize('protocol', [2, 3, 4, 5])
@pytest.mark.parametrize('name', CALLS)
def test_a_call(name, protocol, write_archive, nothing_runs):
    path = write_archive(pickle.dumps({'model': CALLS[name]}, protocol))
    # torch and posix functions are named after where they are defined.
    with refused(nothing_runs, rf"file.pt: the file asks for '.*{name.rpartition('.')[2]}"):
        read_yolov5_file(path)


@pytest.mark.parametrize('name', CALLS)
def test_a_call_hidden_in_a_network(name, tmp_path, nothing_runs):
    network = make_network((0.33, 0.1))
    network.model[3].m = CALLS[name]
    path = save(tmp_path / 'yolov5.pt', network)
    assert is_yolov5_file(path)
    with refused(nothing_runs, 'the file asks for'):
        read_yolov5_file(path)


def test_the_question_whether_it_is_a_yolov5_file_runs_nothing(write_archive, nothing_runs):
    path = write_archive(pickle.dumps(CALLS['os.system']))
    with nothing_runs():
        assert not is_yolov5_file(path)


# Opcodes written by hand: what pickle.dumps would never write.
OS_SYSTEM = b'cposix\nsystem\n'
MODEL = b'cmodels.yolo\nDetectionModel\n'
TEXT = b'X\x05\x00\x00\x00touch'


@pytest.mark.parametrize(
    ('body', 'message'),
    [
        (OS_SYSTEM + TEXT + b'\x85R', "asks for 'posix.system'"),
        (b'cos\nsystem\n' + TEXT + b'\x85R', "asks for 'os.system'"),
        (b'c__builtin__\neval\n' + TEXT + b'\x85R', "asks for 'builtins.eval'"),
        # A persistent id that must first be computed by a call, or that is a call's name.
        (OS_SYSTEM + TEXT + b'\x85RQ', "asks for 'posix.system'"),
        (b'X\x07\x00\x00\x00storage' + TEXT + b'\x86Q', 'a persistent id that is no storage'),
        (b'Pposix system\n', 'uses PERSID'),
        # Dotted names, which pickle resolves attribute by attribute from protocol 4 on.
        (b'\x8c\x0bmodels.yolo\x8c\x08Model.os\x93', "asks for 'models.yolo.Model.os'"),
        (b'\x8c\x05torch\x8c\x0bnn.os.systm\x93', "asks for 'torch.nn.os.systm'"),
        (b'cmodels.yolo\nos\n', "asks for 'models.yolo.os'"),
        (b'cmodels.common os\nsystem\n', 'asks for'),
        # The other opcodes that make objects.
        (b"(S'touch'\niposix\nsystem\n", 'uses STRING'),
        (b'(' + TEXT + b'iposix\nsystem\n', 'uses INST'),
        (b'(' + MODEL + b'o', 'uses OBJ'),
        (MODEL + b')}\x92', 'uses NEWOBJ_EX'),
        (b'\x82\x01', 'uses EXT1'),
        (b'ccopyreg\n_reconstructor\n', "asks for 'copyreg._reconstructor'"),
        (b'ccopy_reg\n_reconstructor\n', "asks for 'copy_reg._reconstructor'"),
        # Known names put to another use.
        (MODEL + b')R', 'calls models.yolo.DetectionModel, which is never called'),
        (MODEL + TEXT + b'\x85\x81', 'an object made with arguments'),
        (b'ccollections\nOrderedDict\n)\x81', 'an object of something that is no known class'),
        (b'ccollections\nOrderedDict\n' + TEXT + b'\x85R', 'takes a list of pairs'),
        (b'ctorch._utils\n_rebuild_tensor_v2\n(NK\x00)))tR', 'a tensor without a storage'),
        (b'ctorch._utils\n_rebuild_tensor_v2\n)R', 'malformed'),
        (b'ctorch._utils\n_rebuild_parameter\n(NNNtR', 'a parameter that is no tensor'),
        (b'ctorch\nFloatStorage\n)R', 'a call of a dtype'),
        (TEXT + b')R', 'a call of a str'),
        (b'}}b', 'a state for a dict'),
        (MODEL + b')\x81Nb', 'a state that is a NoneType'),
        (b']' + b'}' + b'a' + b'}' + b'e', 'malformed'),
        (b'}' + TEXT + b'a', 'items added to what is no list'),
        (b']' + TEXT + b'Ns', 'items added to what is no dict'),
        (b'})Ns', 'a tuple as key of a dict'),
        (b'}]Ns', 'a list as key of a dict'),
        (b'\x8f(]\x90', 'a set may hold scalars only'),
        (b'h\x05', 'a reference to nothing'),
        (b'\x85', 'malformed'),
        (b'e', 'malformed'),
        (b'X\xff\xff\xff\xff', 'malformed'),
        (b'\xff', 'uses opcode'),
        (b'', 'malformed'),
    ],
    ids=repr,
)
def test_opcodes(body, message, nothing_runs):
    with refused(nothing_runs, message):
        read_pickle(b'\x80\x02' + body + b'.', {'models.yolo.DetectionModel'})


def test_no_end():
    with pytest.raises(CheckpointError, match='malformed'):
        read_pickle(b'\x80\x02N')


def test_names_that_hook_into_objects_stay_text(nothing_runs):
    """A state may hold __setstate__, __class__ and the like: nothing looks them up."""
    state = dict.fromkeys(('__setstate__', '__class__', '__dict__', '__del__', 'name'), 'text')
    body = MODEL + b')\x81' + pickle.dumps(state, 2)[2:-1] + b'b' + b'}b'
    with nothing_runs():
        bag = read_pickle(b'\x80\x02' + body + b'.', {'models.yolo.DetectionModel'})
    assert type(bag) is Bag
    assert (bag.name, bag.state) == ('models.yolo.DetectionModel', {})


def test_slot_state_stays_text():
    body = MODEL + b')\x81N' + pickle.dumps({'name': 'os.system'}, 2)[2:-1] + b'\x86b'
    bag = read_pickle(b'\x80\x02' + body + b'.', {'models.yolo.DetectionModel'})
    assert bag.name == 'models.yolo.DetectionModel'


def test_deep_nesting(nothing_runs):
    with nothing_runs():
        value = read_pickle(b'\x80\x02)' + b'\x85' * 200_000 + b'.')
    assert type(value) is tuple


def test_a_key_that_would_take_forever_to_hash():
    with pytest.raises(CheckpointError, match='a tuple as key'):
        read_pickle(b'\x80\x02})' + b'q\x00h\x00\x86' * 200 + b'Ns.')


# A network of one layer, small enough to be mutated byte by byte.
def tiny_network():
    network = make_network((0.33, 0.1))
    network.yaml = {}
    network.model = torch.nn.Sequential(network.model[12], network.model[24])
    network.model[1].m = torch.nn.ModuleList()
    network.model[1].grid = []
    return network


@pytest.fixture(scope='module')
def tiny_file(tmp_path_factory):
    return save(tmp_path_factory.mktemp('tiny') / 'yolov5.pt', tiny_network()).read_bytes()


def test_the_tiny_file_is_valid(tiny_file, tmp_path):
    (tmp_path / 'yolov5.pt').write_bytes(tiny_file)
    assert read_yolov5_file(tmp_path / 'yolov5.pt').num_classes == 3


def try_to_read(path):
    """Reads, or raises mmkd's error: anything else fails the test."""
    is_yolov5_file(path)
    with contextlib.suppress(CheckpointError):
        convert_yolov5(read_yolov5_file(path))


@st.composite
def mutations(draw, data: bytes):
    data = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data) - 1))
        match draw(st.sampled_from(['set', 'insert', 'delete', 'copy', 'cut'])):
            case 'set':
                data[at] = draw(st.integers(0, 255))
            case 'insert':
                data[at:at] = draw(st.binary(min_size=1, max_size=8))
            case 'delete':
                del data[max(at, 1) : at + draw(st.integers(2, 8))]
            case 'copy':
                source = draw(st.integers(0, len(data) - 1))
                data[at:at] = data[source : source + draw(st.integers(1, 64))]
            case 'cut':
                del data[max(at, 1) :]
    return bytes(data)


FUZZ = settings(
    max_examples=400,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@FUZZ
@given(data=st.data())
def test_mutated_files(data, tiny_file, tmp_path, nothing_runs):
    path = tmp_path / 'yolov5.pt'
    path.write_bytes(data.draw(mutations(tiny_file)))
    with nothing_runs():
        try_to_read(path)


@FUZZ
@given(data=st.data())
def test_mutated_pickles(data, tiny_file, write_archive, nothing_runs):
    """Behind a correct checksum, so that the pickle's reader sees the damage."""
    with zipfile.ZipFile(io.BytesIO(tiny_file)) as archive:
        parts = {name.partition('/')[2]: archive.read(name) for name in archive.namelist()}
    storages = {k.partition('/')[2]: v for k, v in parts.items() if k.startswith('data/')}
    path = write_archive(data.draw(mutations(parts['data.pkl'])), storages)
    with nothing_runs():
        try_to_read(path)


@FUZZ
@given(body=st.binary(max_size=200))
def test_random_pickles(body, nothing_runs):
    with nothing_runs(), contextlib.suppress(CheckpointError):
        read_pickle(b'\x80\x02' + body, {'models.yolo.DetectionModel'})


@pytest.mark.parametrize('share', [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_file_that_was_cut_short(share, tmp_path, nothing_runs):
    whole = save(tmp_path / 'whole.pt', make_network((0.33, 0.1))).read_bytes()
    path = tmp_path / 'cut.pt'
    path.write_bytes(whole[: int(len(whole) * share)])
    with refused(nothing_runs, 'cut.pt: .*(cut short|zip format)'):
        read_yolov5_file(path)


def test_a_damaged_weight(tmp_path, nothing_runs):
    path = save(tmp_path / 'yolov5.pt', make_network((0.33, 0.1)))
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo('yolov5/data/0')
    data = bytearray(path.read_bytes())
    data[info.header_offset + 200] ^= 1
    path.write_bytes(data)
    with refused(nothing_runs, r'damaged or cut short \(Bad CRC-32'):
        read_yolov5_file(path)


def archive_with(write_archive, **kwargs):
    return TorchArchive(write_archive(b'\x80\x02N.', **kwargs))


def view(numel, size, stride, offset=0, key='0'):
    return TensorRef(StorageRef(key, torch.float32, numel), offset, size, stride)


@pytest.mark.parametrize(
    ('ref', 'message'),
    [
        (view(10**15, (10**15,), (1,)), 'holds 4 elements .*claims 1000000000000000'),
        (view(4, (10**12,), (0,)), 'must lie inside its storage of 4 elements'),
        (view(4, (10**6, 10**6), (0, 0)), 'must lie inside its storage'),
        (view(4, (2, 2), (2, 10**9)), 'must lie inside its storage'),
        (view(4, (4,), (1,), offset=1), 'must lie inside its storage'),
        (view(4, (2,), (1,), offset=10**18), 'must lie inside its storage'),
        (view(3, (3,), (1,)), 'must take 12 bytes or less'),
        (view(4, (4,), (1,), key='1'), "holds no 'data/1'"),
        (view(4, (4,), (1,), key='../data.pkl'), 'holds no'),
    ],
    ids=lambda value: str(value)[-60:] if isinstance(value, str) else '',
)
def test_tensors_beyond_their_storage(ref, message, write_archive, nothing_runs):
    with (
        archive_with(write_archive, storages={'0': struct.pack('<4f', 1, 2, 3, 4)}) as archive,
        refused(nothing_runs, message),
    ):
        archive.tensor(ref)


def test_views_inside_their_storage(write_archive):
    with archive_with(write_archive, storages={'0': struct.pack('<4f', 1, 2, 3, 4)}) as archive:
        assert archive.tensor(view(4, (2, 2), (1, 2))).tolist() == [[1, 3], [2, 4]]
        assert archive.tensor(view(4, (), (), offset=3)).item() == 4
        assert archive.tensor(view(4, (0,), (1,), offset=0)).tolist() == []


def test_a_compressed_entry(write_archive, nothing_runs):
    """A zip bomb: small on disk, huge when read."""
    bomb = {'0': bytes(50_000_000)}
    path = write_archive(b'\x80\x02N.', bomb, compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 100_000
    with refused(nothing_runs, 'must be stored, got a compressed one'):
        TorchArchive(path).pickle()


def test_entries_that_claim_the_same_bytes(write_archive, nothing_runs):
    """The other zip bomb: many entries of the directory point at one body."""
    path = write_archive(b'\x80\x02N.', {str(i): bytes(4000) for i in range(4)})
    with TorchArchive(path) as archive:
        for info in archive._zip.infolist():
            if '/data/' in info.filename:
                info.header_offset = archive._zip.getinfo('archive/data/0').header_offset
        archive._bytes_left = 6000
        archive.tensor(view(1000, (1,), (1,)))
        with refused(nothing_runs, 'within the file'):
            archive.tensor(view(1000, (1,), (1,), key='1'))


def test_a_network_that_shares_its_parts_without_end(write_archive, nothing_runs):
    """Each of 12 modules holds the next one nine times over: 9 ** 12 paths."""
    names = b''.join(b'X\x01\x00\x00\x00%dh\x01' % i for i in range(9))
    sequential = b'ctorch.nn.modules.container\nSequential\n)\x81'
    modules = b'X\x08\x00\x00\x00_modules'
    body = sequential + b'}bq\x01'
    for _ in range(12):
        body += b'0' + sequential + b'}' + modules + b'}(' + names + b'usbq\x01'
    network = MODEL + b')\x81}' + modules + b'}X\x05\x00\x00\x00modelh\x01ssb'
    pickled = b'\x80\x02' + body + b'0}X\x05\x00\x00\x00model' + network + b's.'
    with refused(nothing_runs, 'larger than any YOLOv5'):
        read_yolov5_file(write_archive(pickled))


def test_a_network_that_holds_itself(write_archive, nothing_runs):
    modules = b'X\x08\x00\x00\x00_modules'
    network = MODEL + b')\x81q\x01}' + modules + b'}X\x05\x00\x00\x00modelh\x01ssb'
    with refused(nothing_runs, 'larger than any YOLOv5'):
        read_yolov5_file(write_archive(b'\x80\x02}X\x05\x00\x00\x00model' + network + b's.'))


@pytest.mark.parametrize('count', [0, 2])
def test_not_one_pickle(count, tmp_path, nothing_runs):
    path = tmp_path / 'file.pt'
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('readme.txt', 'hello')
        for index in range(count):
            archive.writestr(f'archive{index}/data.pkl', b'\x80\x02N.')
    with refused(nothing_runs, f'must hold one data.pkl, got {count}'):
        read_yolov5_file(path)


def test_big_endian(tmp_path):
    path = tmp_path / 'file.pt'
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('archive/data.pkl', b'\x80\x02N.')
        archive.writestr('archive/byteorder', b'big')
    with pytest.raises(CheckpointError, match='must be little-endian'):
        read_yolov5_file(path)


def test_the_watch_sees_what_pickle_would_run(write_archive, nothing_runs, tmp_path):
    """The proof's own check: the same file, unpickled, is seen."""
    mark = tmp_path / 'ran'
    data = pickle.dumps(Call(exec, f'open({str(mark)!r}, "w").close()'))
    with pytest.raises(AssertionError), nothing_runs():
        pickle.loads(data)
    assert mark.exists()
