"""An Ultralytics file's weights give the same raw maps in MMYOLO."""

import pytest
import torch

from mmkd.checkpoints.ultralytics import (
    CheckpointError,
    convert_yolov5,
    load_yolov5_state_dict,
    read_yolov5_file,
)
from tests.checkpoints.ultralytics.ultralytics_like import (
    ANCHORS,
    Model,
    make_network,
    raw_maps,
    save,
)


def mmyolo_maps(model, image):
    """MMYOLO's raw maps in Ultralytics' layout: per anchor 4 box, 1 objectness, C classes."""
    with torch.no_grad():
        levels = zip(*model.bbox_head(model.extract_feat(image)), strict=True)
    maps = []
    for scores, boxes, objectness in levels:
        parts = [part.unflatten(1, (3, -1)) for part in (boxes, objectness, scores)]
        maps.append(torch.cat(parts, 2).flatten(1, 2))
    return maps


def assert_same_maps(got, expected):
    assert len(got) == len(expected) == 3
    for ours, theirs in zip(got, expected, strict=True):
        assert theirs.std() > 0.01  # maps that say something
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)


def test_the_original_programs_file(shared_checkpoints, build_yolov5):
    model = build_yolov5('n', num_classes=3)
    model.load_state_dict(load_yolov5_state_dict(shared_checkpoints / 'yolov5n_nc3.pt', model))
    expected = torch.load(shared_checkpoints / 'yolov5n_nc3_maps.pt', weights_only=True)
    assert_same_maps(mmyolo_maps(model, expected['input']), expected['raw_maps'])


# (1.33, 0.25) has the depth of YOLOv5x; its width is left out, for time.
@pytest.mark.parametrize('size', ['n', 's', 'm', 'l', (1.33, 0.25), (0.5, 0.125)], ids=str)
def test_every_size(size, tmp_path, build_yolov5):
    network = make_network(size, num_classes=2)
    path = save(tmp_path / 'yolov5.pt', network)
    model = build_yolov5(size, num_classes=2)
    state = load_yolov5_state_dict(path, model)
    assert all(value.dtype != torch.float16 for value in state.values())
    model.load_state_dict(state)
    image = torch.rand(1, 3, 64, 96)
    assert_same_maps(mmyolo_maps(model, image), raw_maps(network, image))


def test_every_tensor_is_used_once(tmp_path):
    file = read_yolov5_file(save(tmp_path / 'yolov5.pt', make_network()))
    state = convert_yolov5(file)
    pointers = {value.data_ptr() for value in state.values()}
    assert len(state) == len(pointers) == len(file.state_dict) - 1
    assert {key for key, value in file.state_dict.items() if value.data_ptr() not in pointers} == {
        'model.24.anchors'
    }


@pytest.mark.parametrize(
    ('config', 'message'),
    [
        (dict(num_classes=4), 'class count .* got 3 in the file and 4 in the config.*num_classes'),
        (dict(strides=(4, 8, 16)), r'strides .* got \(8, 16, 32\) in the file'),
        (dict(anchors=ANCHORS[::-1]), 'anchors .*base_sizes'),
        (dict(anchors=[level[:4] for level in ANCHORS]), 'anchors .*base_sizes'),
        (dict(size='s'), 'shape .*deepen_factor=0.33, widen_factor=0.25'),
        (dict(size=(0.67, 0.25)), 'got nothing.*deepen_factor=0.33'),
        (dict(eps=1e-5), 'eps of backbone.stem.bn .*norm_cfg'),
        (dict(act='ReLU'), 'activation .*act_cfg'),
        (dict(std=[58.0] * 3), 'mean and std .*data_preprocessor'),
        (dict(bgr_to_rgb=False), 'swap of BGR .*bgr_to_rgb'),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_config_that_differs(config, message, tmp_path, build_yolov5):
    path = save(tmp_path / 'yolov5.pt', make_network())
    with pytest.raises(CheckpointError, match=message):
        load_yolov5_state_dict(path, build_yolov5(**config))


def test_another_detector(tmp_path):
    path = save(tmp_path / 'yolov5.pt', make_network())
    with pytest.raises(CheckpointError, match="needs a config of MMYOLO's YOLOv5, got a Linear"):
        load_yolov5_state_dict(path, torch.nn.Linear(1, 1))


def test_anchors_survive_float16(tmp_path, build_yolov5):
    # Evolved anchors are no round numbers, and the file keeps them as float16.
    anchors = [[value * 1.0377 for value in level] for level in ANCHORS]
    path = save(tmp_path / 'yolov5.pt', make_network(anchors=anchors))
    load_yolov5_state_dict(path, build_yolov5(anchors=anchors))


def no_shortcut(network):
    network.model[2].m[0].add = False


def other_activation(network):
    network.model[0].act = torch.nn.LeakyReLU()


def fused(network):
    del network.model[3].bn


def other_stride(network):
    network.model[18].conv.stride = (1, 1)


def other_pool(network):
    network.model[9].m = torch.nn.MaxPool2d(3, 1, 1)


def other_source(network):
    network.model[16].f = [-1, 2]


def other_upsampling(network):
    network.model[11] = torch.nn.Upsample(None, 2, 'bilinear')
    network.model[11].f = -1


def other_eps(network):
    network.model[1].bn.eps = 1e-5


def one_layer_less(network):
    del network.model[22]


def one_layer_more(network):
    network.model.append(torch.nn.Identity())


def extra_parameter(network):
    network.model[12].gain = torch.nn.Parameter(torch.ones(1))


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (no_shortcut, r'model\.2\.m\.0 \(Bottleneck\) must have add = True.*got False'),
        (other_activation, r'model\.0 must hold a SiLU .*got LeakyReLU'),
        (fused, r"model\.3 must hold a BatchNorm2d as 'bn'.*got nothing; use an unfused"),
        (other_stride, r'model\.18\.conv \(Conv2d\) must have stride'),
        (other_pool, r'model\.9\.m \(MaxPool2d\) must have kernel_size = 5.*got 3'),
        (other_source, r'model\.16 \(Concat\) must have f'),
        (other_upsampling, r'model\.11 \(Upsample\) must have mode = nearest.*got bilinear'),
        (other_eps, r'model\.1\.bn must have eps 0.001'),
        (one_layer_less, 'must have the 25 layers .*got 24 layers; .* number 22, C3'),
        (one_layer_more, 'must have the 25 layers .*got 26 layers; .* number 25, Identity'),
        (extra_parameter, r'model\.12\.gain has no place'),
    ],
)
def test_a_network_that_differs(change, message, tmp_path):
    network = make_network()
    change(network)
    file = read_yolov5_file(save(tmp_path / 'yolov5.pt', network))
    with pytest.raises(CheckpointError, match=message):
        convert_yolov5(file)


def test_v6_0_files(tmp_path, build_yolov5):
    path = save(tmp_path / 'yolov5.pt', make_network(kind=Model))
    assert load_yolov5_state_dict(path, build_yolov5())
    assert read_yolov5_file(path).network_class == 'models.yolo.Model'
