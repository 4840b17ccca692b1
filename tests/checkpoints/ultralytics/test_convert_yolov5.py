"""``mmkd convert`` writes an ordinary MMYOLO checkpoint."""

import hashlib

import pytest
import torch

from mmkd.checkpoints.ultralytics import CheckpointError
from mmkd_cli.convert import convert
from mmkd_cli.main import main
from tests.checkpoints.ultralytics.ultralytics_like import make_network, save


@pytest.fixture
def source(tmp_path):
    return save(tmp_path / 'yolov5n.pt', make_network(num_classes=2, names=['cat', 'dog']))


def test_the_command(source, tmp_path, capsys):
    target = tmp_path / 'new' / 'yolov5n.pth'
    command = ['convert', str(source), str(target)]
    assert main(command) == 0
    assert '348 tensors, 2 classes' in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r'^error: .*exists; give another name, or --force'):
        main(command)


def test_what_is_written(source, tmp_path, build_yolov5):
    target = tmp_path / 'yolov5n.pth'
    convert(source, target)
    checkpoint = torch.load(target, weights_only=True)
    assert checkpoint['meta']['dataset_meta']['classes'] == ('cat', 'dog')
    assert checkpoint['meta']['source'] == 'yolov5n.pt'
    assert checkpoint['meta']['source_sha256'] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert checkpoint['meta']['strides'] == (8, 16, 32)
    build_yolov5('n', num_classes=2).load_state_dict(checkpoint['state_dict'])


def test_an_existing_target_is_kept(source, tmp_path):
    target = tmp_path / 'yolov5n.pth'
    target.write_text('precious')
    with pytest.raises(CheckpointError, match='--force to overwrite'):
        convert(source, target)
    assert target.read_text() == 'precious'
    convert(source, target, force=True)
    assert torch.load(target, weights_only=True)['state_dict']


def test_a_bad_source_leaves_no_target(tmp_path):
    (tmp_path / 'text.pt').write_text('text')
    with pytest.raises(CheckpointError, match='zip format'):
        convert(tmp_path / 'text.pt', tmp_path / 'out.pth')
    assert [path.name for path in tmp_path.iterdir()] == ['text.pt']


@pytest.mark.parametrize('num_classes', [2, 80])
def test_the_weights_must_fit_the_config(num_classes, source, tmp_path, yolo_models):
    config = tmp_path / 'config.py'
    config.write_text(
        "_base_ = 'mmyolo::yolov5/yolov5_n-v61_syncbn_fast_8xb16-300e_coco.py'\n"
        f'model = dict(bbox_head=dict(head_module=dict(num_classes={num_classes})))\n'
    )
    target = tmp_path / 'yolov5n.pth'
    if num_classes == 2:
        convert(source, target, str(config))
        assert torch.load(target, weights_only=True)['meta']['anchors'][0][0] == (10, 13)
    else:
        with pytest.raises(CheckpointError, match=r'class count .* got 2 in the file and 80 in'):
            convert(source, target, str(config))
        assert not target.exists()
