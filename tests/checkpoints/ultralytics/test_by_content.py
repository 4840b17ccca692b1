"""A YOLOv5 file is known by what it holds, wherever it comes from, and by what is used of it."""

import argparse
import datetime
import os
import struct
import sys

import pytest
import torch
from torch import nn

from mmkd.checkpoints.data_origin import check_data_origin
from mmkd.checkpoints.detector_checkpoint import load_detector
from mmkd.checkpoints.ultralytics import CheckpointError, is_yolov5_file, read_yolov5_file
from mmkd.checkpoints.ultralytics.inert_objects import StorageRef, TensorRef
from mmkd.checkpoints.ultralytics.torch_archive import TorchArchive
from tests.checkpoints.ultralytics.ultralytics_like import importable, make_network, save


@pytest.mark.parametrize('name', ['yolov5n.pt', 'renamed.pth', 'no_suffix'])
def test_a_yolov5_file_by_address_is_told_by_its_content(name, site, cache, tmp_path, build_yolov5):
    network = make_network()
    site.pages[name] = save(tmp_path / 'yolov5.pt', network).read_bytes()
    model = build_yolov5()
    load_detector(model, f'{site.url}/{name}', 'teacher_ckpt')
    stem = network.float().model[0].conv.weight
    assert torch.equal(model.backbone.stem.conv.weight, stem)
    (tmp_path / name).write_bytes(site.pages[name])
    load_detector(build_yolov5(), str(tmp_path / name), 'teacher_ckpt')


def test_an_unstripped_file_of_a_training_on_several_gpus(tmp_path, nothing_runs):
    """'model' has SyncBatchNorm and a fork's layer; `opt` is a Namespace: neither is read."""
    averaged, model = make_network(seed=1), nn.SyncBatchNorm.convert_sync_batchnorm(make_network())
    model.model[9].attention = nn.MultiheadAttention(8, 2)
    opt = argparse.Namespace(sync_bn=True, device='0,1', keys={(1, 2): 3}, kinds={('a', 1)})
    path = save(
        tmp_path / 'last.pt',
        model,
        ema=averaged,
        opt=opt,
        when=datetime.date(2026, 1, 1),
    )
    with nothing_runs():
        assert is_yolov5_file(path)
        file = read_yolov5_file(path)
    assert file.source == 'ema'
    key = 'model.0.conv.weight'
    assert torch.equal(file.state_dict[key], averaged.float().state_dict()[key])


def test_the_order_of_its_classes_is_compared(tmp_path, build_yolov5):
    network = make_network()
    path = save(tmp_path / 'yolov5.pt', network)
    model = build_yolov5()
    load_detector(model, str(path), 'teacher_ckpt')
    names = read_yolov5_file(path).class_names
    assert len(names) > 1
    check_data_origin(model, {}, names)
    with pytest.raises(ValueError, match=r'metainfo\.classes'):
        check_data_origin(model, {}, names[::-1])


def test_synchronised_batch_norms_are_batch_norms(tmp_path, build_yolov5):
    model = nn.SyncBatchNorm.convert_sync_batchnorm(make_network())
    path = save(tmp_path / 'last.pt', model)
    load_detector(build_yolov5(), str(path), 'teacher_ckpt')


def test_what_is_used_must_be_known(tmp_path):
    averaged = make_network()
    averaged.model[9].attention = nn.MultiheadAttention(8, 2)
    path = save(tmp_path / 'last.pt', make_network(), ema=averaged)
    with pytest.raises(CheckpointError, match=r"last.pt: the file asks for 'torch.nn.modules.act"):
        read_yolov5_file(path)


class Attack:
    def __reduce__(self):
        return os.system, ('touch /tmp/mmkd_was_here',)


def test_an_attack_in_what_is_not_used_is_refused(tmp_path, nothing_runs):
    path = save(tmp_path / 'last.pt', make_network(), opt=Attack())
    with pytest.raises(CheckpointError, match=r"asks for 'posix\.system'"), nothing_runs():
        read_yolov5_file(path)


def test_a_layer_of_a_fork_is_named_as_one(tmp_path):
    class CBAM(nn.Module):
        pass

    network = make_network()
    CBAM.__module__, CBAM.__qualname__ = 'models.common', 'CBAM'
    network.model[9].cbam = CBAM()
    with importable():
        sys.modules['models.common'].CBAM = CBAM
        torch.save({'model': network}, tmp_path / 'fork.pt')
    message = r"fork.pt: .*'models.common.CBAM' \(a network of a fork"
    with pytest.raises(CheckpointError, match=message):
        read_yolov5_file(tmp_path / 'fork.pt')


def test_a_storage_of_odd_length(write_archive):
    path = write_archive(b'\x80\x02N.', {'0': struct.pack('<4f', 1, 2, 3, 4)[:13]})
    ref = TensorRef(StorageRef('0', torch.float32, 4), 0, (4,), (1,))
    with (
        TorchArchive(path) as archive,
        pytest.raises(
            CheckpointError, match=r"file.pt: storage '0' must hold whole elements.*got 13 bytes"
        ),
    ):
        archive.tensor(ref)
