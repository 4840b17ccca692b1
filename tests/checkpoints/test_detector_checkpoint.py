"""Weights load whole or not at all, with an error that tells why."""

import datetime
import os
import pickle
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config, ConfigDict
from mmengine.runner.checkpoint import CheckpointLoader
from torch import nn

from mmkd.checkpoints.detector_checkpoint import load_detector
from mmkd.checkpoints.ultralytics import CheckpointError
from mmkd.export.export_student import export_student
from mmkd.runner.resume import prepare_resume
from tests.tiny import tiny_pair, tiny_ssd

pytestmark = pytest.mark.usefixtures('mmdet_scope')


@pytest.fixture
def teacher_file(tmp_path) -> str:
    torch.manual_seed(1)
    path = tmp_path / 'teacher.pth'
    teacher = MODELS.build(tiny_ssd(width=16, std=1.0))
    torch.save(dict(state_dict=teacher.state_dict(), meta=dict(epoch=3)), path)
    return str(path)


def pair(**changes):
    return MODELS.build(ConfigDict(tiny_pair(**changes)))


def test_teacher_and_student_weights_load_whole(teacher_file, tmp_path):
    student = MODELS.build(tiny_ssd())
    torch.save(student.state_dict(), tmp_path / 'student.pth')  # a bare state dict, too
    model = pair(teacher_ckpt=teacher_file, student_ckpt=str(tmp_path / 'student.pth'))
    model.init_weights()  # the runner calls it: it must not undo what was loaded
    saved = torch.load(teacher_file)['state_dict']
    assert all(torch.equal(v, saved[k]) for k, v in model.teacher.state_dict().items())
    own = student.state_dict()
    assert all(torch.equal(v, own[k]) for k, v in model.student.state_dict().items())


def test_teacher_may_be_the_student_of_a_distillation_checkpoint(tmp_path):
    model = pair()
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'kd.pth')
    loaded = pair(teacher=tiny_ssd(), teacher_ckpt=str(tmp_path / 'kd.pth'))
    own = model.student.state_dict()
    assert all(torch.equal(v, own[k]) for k, v in loaded.teacher.state_dict().items())


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'teacher_ckpt must be an existing file.*nowhere'):
        pair(teacher_ckpt=str(tmp_path / 'nowhere.pth'))


@pytest.mark.parametrize('content', [b'', b'not a checkpoint', pickle.dumps(dict(state_dict=3))])
def test_file_that_is_no_checkpoint(tmp_path, content):
    path = tmp_path / 'bad.pth'
    path.write_bytes(content)
    with pytest.raises(ValueError, match='teacher_ckpt must'):
        pair(teacher_ckpt=str(path))


class Intruder:
    """Unpickling it would make a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_checkpoint_that_would_run_code_is_refused_by_name(tmp_path):
    proof = tmp_path / 'ran'
    torch.save(dict(state_dict=dict(a=torch.ones(1)), x=Intruder(proof)), tmp_path / 'bad.pth')
    with pytest.raises(ValueError, match=r'(?s)teacher_ckpt must.*posix\.mkdir'):
        pair(teacher_ckpt=str(tmp_path / 'bad.pth'))
    with pytest.raises(ValueError, match=r'(?s)student_ckpt must.*posix\.mkdir'):
        pair(student_ckpt=str(tmp_path / 'bad.pth'))
    with pytest.raises(Exception, match=r'posix\.mkdir'):
        prepare_resume(Config(dict(work_dir=str(tmp_path))), str(tmp_path / 'bad.pth'))
    with pytest.raises(Exception, match=r'posix\.mkdir'):  # load_from, test, tools of mmdet
        CheckpointLoader.load_checkpoint(str(tmp_path / 'bad.pth'), map_location='cpu')
    assert not proof.exists()


def test_checkpoint_without_weights(tmp_path):
    torch.save(dict(state_dict={}), tmp_path / 'empty.pth')
    with pytest.raises(ValueError, match='no tensors'):
        pair(teacher_ckpt=str(tmp_path / 'empty.pth'))


def test_other_architecture_names_the_first_keys_and_counts_the_rest(tmp_path):
    other = tiny_ssd()
    other['backbone'].update(depth=34)
    torch.save(MODELS.build(other).state_dict(), tmp_path / 'other.pth')
    with pytest.raises(ValueError, match=r'unexpected: backbone\.layer\S+, .* and \d+ more'):
        pair(teacher=tiny_ssd(), teacher_ckpt=str(tmp_path / 'other.pth'))


def test_other_class_count_says_so(tmp_path):
    torch.save(MODELS.build(tiny_ssd(classes=5)).state_dict(), tmp_path / 'five.pth')
    with pytest.raises(
        ValueError, match=r'for the 3 classes of the config, but those of .* score 5'
    ):
        pair(teacher=tiny_ssd(), teacher_ckpt=str(tmp_path / 'five.pth'))


def test_not_strict_loads_what_fits_but_never_nothing(tmp_path, teacher_file):
    torch.save(MODELS.build(tiny_ssd(classes=5)).state_dict(), tmp_path / 'five.pth')
    model = MODELS.build(tiny_ssd())
    head = model.bbox_head.cls_convs[0][0].weight.clone()
    load_detector(model, str(tmp_path / 'five.pth'), 'student_ckpt', strict=False)
    saved = torch.load(tmp_path / 'five.pth')
    assert torch.equal(model.backbone.conv1.weight, saved['backbone.conv1.weight'])
    assert torch.equal(model.bbox_head.cls_convs[0][0].weight, head)
    torch.save({'fc.weight': torch.ones(2)}, tmp_path / 'none.pth')
    with pytest.raises(ValueError, match=' 0 fit'):
        load_detector(model, str(tmp_path / 'none.pth'), 'student_ckpt', strict=False)


def test_what_is_no_dense_tensor_is_named_before_anything_is_loaded(tmp_path):
    """torch refuses these in the middle of loading, with half of the weights replaced."""
    path = str(tmp_path / 'a.pth')
    for value, name in (
        (torch.eye(2).to_sparse(), 'layout torch.sparse_coo'),
        (torch.ones(2, 2, device='meta'), 'without content'),
        (torch.quantize_per_tensor(torch.ones(2, 2), 0.1, 0, torch.qint8), 'a quantized tensor'),
        (torch.ones(2, 2, dtype=torch.complex64), 'complex numbers'),
        (np.ones((2, 2), np.float32), 'Array'),
        ([1.0], 'list'),
    ):
        model = nn.Linear(2, 2)
        before = model.bias.clone()
        torch.save(dict(state_dict=dict(weight=value, bias=torch.ones(2))), path)
        with pytest.raises(ValueError, match=rf'1 of another shape: weight \(file .*{name}'):
            load_detector(model, path, 'teacher_ckpt')
        assert torch.equal(model.bias, before)


@pytest.mark.parametrize('meta', [None, 'text', [1]])
def test_a_meta_that_is_none(meta, tmp_path):
    path, pair = str(tmp_path / 'a.pth'), Config(dict(model=tiny_pair(), default_scope='mmdet'))
    torch.save(dict(state_dict={'architecture.a': torch.ones(1)}, meta=meta, optimizer={}), path)
    assert export_student(path, pair, tmp_path / 'out.pth').exists()
    with pytest.raises(ValueError, match='must hold the state of the run'):
        prepare_resume(Config(dict(work_dir=str(tmp_path))), path)


def test_a_path_that_is_none():
    for path in (True, 3, ['a.pth'], dict(a='\x1b[31m')):
        with pytest.raises(CheckpointError, match=r'must be a path or a URL, but got .*in quotes'):
            load_detector(nn.Linear(2, 2), path, 'teacher_ckpt')


@pytest.mark.parametrize('legacy', [False, True])
def test_what_stands_beside_the_weights_does_not_decide(legacy, tmp_path):
    weights = dict(weight=torch.ones(2, 2), bias=torch.ones(2))
    beside = dict(
        time=[datetime.datetime.now(datetime.timezone.utc), datetime.timedelta(1)],
        day=datetime.date(2024, 1, 2),
        path=Path('a/b.py'),
        config=ConfigDict(a=dict(b=[dict(c=1)])),
        kinds=[frozenset((1,)), slice(0, 3), defaultdict(list, a=[1])],
    )
    content = dict(state_dict=weights, meta=beside, hyper_parameters=ConfigDict(beside))
    torch.save(content, tmp_path / 'a.pth', _use_new_zipfile_serialization=not legacy)
    model = nn.Linear(2, 2)
    loaded = load_detector(model, str(tmp_path / 'a.pth'), 'teacher_ckpt')
    assert model.weight.eq(1).all() and loaded.meta == beside


def test_averaged_weights_of_torch(tmp_path):
    averaged = torch.optim.swa_utils.AveragedModel(nn.Linear(2, 2))
    torch.save(dict(state_dict=averaged.state_dict()), tmp_path / 'a.pth')
    model = nn.Linear(2, 2)
    load_detector(model, str(tmp_path / 'a.pth'), 'teacher_ckpt')
    assert torch.equal(model.weight, averaged.module.weight)
