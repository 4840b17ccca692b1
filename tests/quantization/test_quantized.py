"""A student with fake quantisers: where they are, what a training keeps, what is exported."""

import copy

import pytest
import torch
from mmdet.registry import MODELS
from torch import nn

from mmkd.algorithms.build_detector import build_detector
from mmkd.checkpoints.state_keys import is_of_quantizer
from mmkd.quantization import Quantize, quantize
from mmkd.quantization.quantized import fix, restore, split_ranges
from mmkd.quantization.sites import find_sites
from tests.tiny import tiny_pair, tiny_ssd

pytestmark = pytest.mark.usefixtures('mmdet_scope')
QUICK = dict(batches=1, momentum=0.5)


def ssd():
    torch.manual_seed(0)
    return build_detector(tiny_ssd())


def features(model, seed: int = 0):
    torch.manual_seed(seed)
    return model.bbox_head(model.extract_feat(torch.randn(2, 3, 64, 64)))[0]


def test_each_tensor_has_one_quantiser():
    model = ssd()
    sites = find_sites(model)
    convs = {name for name, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    assert set(sites.convolutions) == convs
    heads = {name for name in convs if name.startswith('bbox_head')}
    assert sites.predictors == heads and len(heads) == 8
    reads = sites.convolutions
    assert reads['backbone.conv1'] and not reads['backbone.layer1.0.conv2']
    assert sites.outputs['backbone.layer1.0.bn1'] == (0, float('inf'))  # a ReLU is behind
    assert sites.outputs['backbone.layer1.0.bn2'][0] == -float('inf')  # the shortcut comes between
    assert 'backbone.layer1.0.conv1' not in sites.outputs


def test_mobilenets_relu6_is_part_of_the_range():
    cfg = tiny_ssd()
    cfg['backbone'] = dict(type='MobileNetV2', out_indices=(2, 4, 7), widen_factor=0.25)
    cfg['neck'] = None
    cfg['bbox_head'].update(in_channels=(8, 24, 1280))
    for key in ('strides', 'ratios', 'min_sizes', 'max_sizes'):
        generator = cfg['bbox_head']['anchor_generator']
        generator[key] = generator[key][:3]
    model = build_detector(cfg)
    limits = set(find_sites(model).outputs.values())
    assert (0.0, 6.0) in limits and (-float('inf'), float('inf')) in limits


def test_the_model_is_otherwise_as_it_was():
    model = ssd().train()
    before, random = copy.deepcopy(model), torch.random.get_rng_state()
    quantize(model, Quantize())
    assert torch.equal(torch.random.get_rng_state(), random)
    own, ranges = split_ranges(model.state_dict())
    assert list(own) == list(before.state_dict()) and ranges
    assert all(torch.equal(value, before.state_dict()[key]) for key, value in own.items())
    assert [type(m).__name__ for m in before.modules()] == [
        type(m).__name__ for n, m in model.named_modules() if not is_of_quantizer(f'{n}.x')
    ]
    modes = {name: m.training for name, m in before.named_modules()}
    assert all(m.training == modes[n] for n, m in model.named_modules() if n in modes)
    assert not any('quantizer' in name for name, _ in model.named_parameters())


def test_a_copy_and_a_restored_model_compute_the_same():
    model = ssd()
    quantize(model, Quantize(**QUICK))
    for seed in range(3):
        features(model, seed)
    model.eval()
    copied, restored = copy.deepcopy(model), ssd()
    own, ranges = split_ranges(model.state_dict())
    restored.load_state_dict(own)
    restore(restored, ranges)
    restored.eval()
    exact = ssd().eval()
    exact.load_state_dict(own)
    with torch.no_grad():
        found = features(model)
        for other in (copied, restored):
            assert all(map(torch.equal, found, features(other)))
        assert not any(map(torch.equal, found, features(exact)))
        fix(restored)
        for one, other in zip(found, features(restored), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
    assert copied.backbone.conv1.input_quantizer is not model.backbone.conv1.input_quantizer


@pytest.mark.parametrize(
    ('setting', 'match'),
    [
        (True, 'quantize must be a dict with any of batches.*but got True'),
        (dict(bits=4), 'but got bits'),
        (dict(batches=-1), 'batches, 0 or more, but got -1'),
        (dict(batches=2.5), 'but got 2.5'),
        (dict(momentum=0), 'above 0 and at most 1, but got 0'),
        (dict(momentum='x'), "but got 'x'"),
        (dict(predictors=1), 'predictors must be True or False, but got 1'),
        (dict(freeze_norm='yes'), "freeze_norm must be True or False, but got 'yes'"),
        (dict(leave_out='neck'), "a list of names of modules, but got 'neck'"),
        (dict(leave_out=None), 'a list of names of modules, but got None'),
        (dict(leave_out=dict(neck=True)), 'a list of names of modules, but got {'),
        (dict(momentum=True), 'must be above 0 and at most 1, but got True'),
        (dict(leave_out=['nek']), 'must name modules of the student, but it has no nek'),
        (dict(leave_out=['backbone', 'neck', 'bbox_head']), 'of SingleStageDetector none is left'),
    ],
)
def test_bad_settings_are_refused(setting, match):
    with pytest.raises(ValueError, match=match):
        MODELS.build(tiny_pair(quantize=setting))


def test_what_is_left_out_stays_in_float():
    model = ssd()
    quantize(model, Quantize(leave_out=['backbone.layer1', 'neck'], predictors=True))
    kept = {key.split('.weight_q')[0] for key in model.state_dict() if '.weight_q' in key}
    assert not any(name.startswith(('backbone.layer1', 'neck')) for name in kept)
    assert 'bbox_head.cls_convs.0.0' in kept and 'backbone.conv1' in kept


def test_levels_may_share_convolutions():
    """Then a state dict has each under several names."""
    pytest.importorskip('onnxruntime')
    from tests.export.test_heads import opened as detector

    model = detector('RetinaSepBNHead').eval()
    model._modules['bbox_head'] = model._modules.pop('bbox_head')  # behind what gives its features
    plain = copy.deepcopy(model)
    quantize(model, Quantize(**QUICK, leave_out=['bbox_head.reg_convs.1']))
    kept = {key.split('.weight_q')[0] for key in model.state_dict() if '.weight_q' in key}
    assert {'mix', 'bbox_head.cls_convs.0.0.conv', 'bbox_head.cls_convs.1.0.conv'} <= kept
    assert not any('reg_convs' in name for name in kept)  # of each level
    for _ in range(2):
        features = model.extract_feat(torch.randn(1, 3, 64, 48))
        model.bbox_head(features)
    restore(plain, split_ranges(model.state_dict())[1])
    ends = [m.state_dict() for m in (model.eval(), plain)]
    assert ends[0].keys() == ends[1].keys()
    assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])


@pytest.mark.parametrize(
    ('key', 'value'),
    [
        ('backbone.conv1.input_quantizer.ranges', torch.ones(4)),
        ('backbone.bn1.input_quantizer.ranges', torch.ones(3)),
        ('backbone.relu.weight_quantizer.bits', torch.tensor(8)),
        ('backbone.output_quantizer.ranges', torch.ones(3)),
        ('gone.output_quantizer.ranges', torch.ones(3)),
    ],
)
def test_ranges_of_something_else_are_refused(key, value):
    model = ssd()
    with pytest.raises(ValueError, match=rf'SingleStageDetector has nothing for {key}'):
        restore(model, {key: value})
    assert not any(is_of_quantizer(key) for key in model.state_dict())
