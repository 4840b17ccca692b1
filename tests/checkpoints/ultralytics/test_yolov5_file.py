"""What is read from an Ultralytics file, and how other files are told from it."""

import sys
import types
from collections import OrderedDict
from pathlib import PurePosixPath

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer

from mmkd.checkpoints.ultralytics import (
    CheckpointError,
    is_yolov5_file,
    load_yolov5_state_dict,
    read_yolov5_file,
)
from tests.checkpoints.ultralytics.ultralytics_like import Model, importable, make_network, save


def test_what_a_file_holds(tmp_path):
    network = make_network(num_classes=2, names=['cat', 'dog'])
    path = save(tmp_path / 'yolov5.pt', network)
    assert is_yolov5_file(path)
    file = read_yolov5_file(path)
    assert file.class_names == ('cat', 'dog')
    assert file.num_classes == 2
    assert file.strides == (8, 16, 32)
    assert file.anchors[0] == ((10, 13), (16, 30), (33, 23))
    assert file.anchors[2][2] == (373, 326)
    assert (file.source, file.network_class) == ('model', 'models.yolo.DetectionModel')
    assert file.yaml['depth_multiple'] == 0.33
    assert file.date == '2026-01-01T00:00:00'
    expected = network.float().state_dict()
    assert file.state_dict.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(file.state_dict[key], value, rtol=0, atol=0)


def test_the_original_programs_file(shared_checkpoints):
    path = shared_checkpoints / 'yolov5n_nc3.pt'
    assert is_yolov5_file(path)
    assert not is_yolov5_file(shared_checkpoints / 'yolov5n_nc3_maps.pt')
    file = read_yolov5_file(path)
    assert file.class_names == ('class0', 'class1', 'class2')
    assert len(file.state_dict) == 349


def test_a_file_in_the_middle_of_training(tmp_path, nothing_runs):
    """Averaged weights come first; what training keeps beside the weights does no harm."""
    model, averaged = make_network(seed=1), make_network(seed=2)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    sum(p.sum() for p in model.parameters()).backward()
    optimizer.step()
    path = save(
        tmp_path / 'last.pt',
        model,
        ema=averaged,
        updates=12,
        optimizer=optimizer.state_dict(),
        best_fitness=np.array([0.25]),
        fitness=np.float64(0.5),
        opt={'save_dir': PurePosixPath('runs/exp'), 'device': torch.device('cpu')},
        shape=torch.Size([1, 2]),
        kind=torch.float16,
        classes={1, 2},
        git=None,
    )
    with nothing_runs():
        file = read_yolov5_file(path)
    assert file.source == 'ema'
    key = 'model.0.conv.weight'
    assert torch.equal(file.state_dict[key], averaged.float().state_dict()[key])


@pytest.mark.parametrize('protocol', [2, 3, 4, 5])
def test_every_pickle_protocol(protocol, tmp_path):
    path = tmp_path / 'yolov5.pt'
    with importable():
        torch.save({'model': make_network()}, path, pickle_protocol=protocol)
    assert is_yolov5_file(path)
    assert len(read_yolov5_file(path).state_dict) == 349


def mmengine_checkpoint():
    history = HistoryBuffer()
    history.update(1.0)
    hub = {'log_scalars': {'loss': history}}
    return {'meta': {'epoch': 1}, 'state_dict': {'w': torch.ones(1)}, 'message_hub': hub}


@pytest.mark.parametrize(
    'content',
    [OrderedDict(w=torch.ones(1)), mmengine_checkpoint(), torch.ones(1), {}],
    ids=['state dict', 'mmengine', 'tensor', 'empty'],
)
def test_an_ordinary_checkpoint_is_left_to_the_ordinary_path(content, tmp_path):
    torch.save(content, tmp_path / 'plain.pt')
    assert not is_yolov5_file(tmp_path / 'plain.pt')


def test_a_state_dict_of_a_yolov5_is_no_yolov5_file(tmp_path):
    path = tmp_path / 'plain.pt'
    torch.save({'model': make_network().state_dict()}, path)
    assert not is_yolov5_file(path)
    with pytest.raises(CheckpointError, match="must be a dict with the network under 'model'"):
        read_yolov5_file(path)


def test_text_that_names_the_classes_is_no_yolov5_file(tmp_path):
    torch.save({'note': 'models.yolo.DetectionModel'}, tmp_path / 'plain.pt')
    assert not is_yolov5_file(tmp_path / 'plain.pt')


def test_a_missing_file(tmp_path):
    assert not is_yolov5_file(tmp_path / 'no.pt')
    with pytest.raises(CheckpointError, match=r'no.pt: cannot be opened'):
        read_yolov5_file(tmp_path / 'no.pt')


def test_a_folder(tmp_path):
    assert not is_yolov5_file(tmp_path)
    with pytest.raises(CheckpointError, match='cannot be opened'):
        read_yolov5_file(tmp_path)


@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
def test_the_format_of_before_torch_1_6(tmp_path):
    path = tmp_path / 'yolov5.pt'
    with importable():
        torch.save({'model': make_network()}, path, _use_new_zipfile_serialization=False)
    assert is_yolov5_file(path)
    with pytest.raises(CheckpointError, match=r'before torch 1.6; load it in the program'):
        read_yolov5_file(path)


def diverged(network):
    network.model[0].conv.weight.data[0] = float('nan')


def no_names(network):
    network.names = None


def too_few_names(network):
    network.names = ['one']


def gap_in_names(network):
    network.names = {0: 'one', 1: 'two', 3: 'four'}


def no_stride(network):
    network.stride = None


def odd_stride(network):
    network.stride = torch.tensor([8.5, 16.0, 32.0])


def too_few_anchors(network):
    network.model[24].anchors = network.model[24].anchors[:2]


def no_detect(network):
    del network.model[24]


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (diverged, r'model\.0\.conv\.weight must be finite, got NaN'),
        (no_names, 'class names must be text by label, got None'),
        (too_few_names, 'a class name is needed for each of 3 classes, got 1'),
        (gap_in_names, 'class names must be text by label'),
        (no_stride, 'strides must be whole pixels, got None'),
        (odd_stride, r'strides must be whole pixels, got \[8.5'),
        (too_few_anchors, r'anchors must be of shape \(3 levels, anchors, 2\), got \(2, 3, 2\)'),
        (no_detect, 'must end in a Detect layer'),
    ],
)
def test_a_network_that_cannot_be_used(change, message, tmp_path):
    network = make_network()
    change(network)
    path = save(tmp_path / 'yolov5.pt', network)
    with pytest.raises(CheckpointError, match=f'yolov5.pt: .*{message}'):
        read_yolov5_file(path)


def test_names_as_a_dict(tmp_path):
    network = make_network()
    network.names = {2: 'c', 0: 'a', 1: 'b'}
    assert read_yolov5_file(save(tmp_path / 'yolov5.pt', network)).class_names == ('a', 'b', 'c')


def test_another_program_of_the_family(tmp_path):
    """A YOLOv8 file, say, names classes of another program."""

    class Foreign(Model):
        pass

    Foreign.__module__ = 'ultralytics.nn.tasks'
    Foreign.__qualname__ = Foreign.__name__ = 'DetectionModel'
    path = tmp_path / 'yolov8.pt'
    names = ('ultralytics', 'ultralytics.nn', 'ultralytics.nn.tasks')
    sys.modules.update({name: types.ModuleType(name) for name in names})
    sys.modules[names[-1]].DetectionModel = Foreign
    try:
        save(path, make_network(kind=Foreign))
    finally:
        for name in names:
            del sys.modules[name]
    assert not is_yolov5_file(path)
    with pytest.raises(CheckpointError, match=r"asks for 'ultralytics.nn.tasks.DetectionModel'"):
        read_yolov5_file(path)


def test_the_averaged_weights_must_be_a_network(tmp_path):
    path = save(tmp_path / 'yolov5.pt', make_network(), ema={'model.0.conv.weight': torch.ones(1)})
    with pytest.raises(CheckpointError, match=r"'ema' must be one of models.yolo.Model"):
        read_yolov5_file(path)


def test_an_error_names_the_file_once(tmp_path):
    network = make_network()
    network.names = None
    path = save(tmp_path / 'yolov5.pt', network)
    with pytest.raises(CheckpointError) as error:
        read_yolov5_file(path)
    assert str(error.value).count(str(path)) == 1


def test_loading_says_what_is_wrong_with_the_file(tmp_path):
    (tmp_path / 'text.pt').write_text('not a checkpoint')
    with pytest.raises(CheckpointError, match=r"text.pt: .*starts with b'not '"):
        load_yolov5_state_dict(tmp_path / 'text.pt', torch.nn.Identity())
