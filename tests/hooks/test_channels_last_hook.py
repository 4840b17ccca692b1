"""The student in channels-last memory format: the same training, in another layout."""

import copy

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.hooks import EMAHook
from torch import nn
from torch.profiler import ProfilerActivity, profile

from mmkd.hooks import ChannelsLastHook
from mmkd.hooks.channels_last_hook import _COPYING, channels_last, parts_of
from mmkd.hooks.strided_conv import StridedConv2d
from mmkd.runner.exact_runner import ExactRunner
from mmkd.teachers.winograd_conv import WinogradConv2d
from tests.tiny import raw_batch, tiny_runner, tiny_ssd, tiny_ssd_with_adapters
from tests.zoo import small

pytestmark = pytest.mark.usefixtures('mmdet_scope')
LAST = torch.channels_last


def build(config):
    torch.manual_seed(0)
    model = MODELS.build(copy.deepcopy(config))
    for module in model.modules():  # of a model without pretrained weights
        if isinstance(getattr(module, 'init_cfg', None), dict):
            module.init_cfg = None
    return model


def train(config, work_dir, last=True, steps=2, **changes):
    images = [raw_batch(1, seed=seed) for seed in range(steps)]
    hooks = [EMAHook(momentum=0.1), *([ChannelsLastHook()] if last else [])]
    wrapper = dict(optimizer=dict(type='AdamW', lr=1e-4, fused=True))
    changes = {'optim_wrapper': wrapper, 'runner': ExactRunner, **changes}
    runner = tiny_runner(build(config), images, work_dir, custom_hooks=hooks, **changes)
    runner.train()
    return runner


def in_layout(module):
    """Its convolutions whose weights have the layout; of others it cannot be told."""
    weights = [m.weight for m in module.modules() if isinstance(m, nn.Conv2d)]
    told = [w for w in weights if w.size(1) > 1 and w[0, 0].numel() > 1]
    return [w.is_contiguous(memory_format=LAST) and not w.is_contiguous() for w in told]


def losses(runner):
    found = runner.message_hub.log_scalars
    return {k: v.data[0].tolist() for k, v in found.items() if 'loss' in k}


@pytest.mark.parametrize('config', [tiny_ssd, tiny_ssd_with_adapters])
def test_the_training_and_its_checkpoints_are_the_same(config, tmp_path):
    """For a detector on its own, and for a pair whose losses ``view`` what is recorded."""
    last = train(config(), tmp_path / 'last')
    plain = train(config(), tmp_path / 'plain', last=False)
    student = getattr(last.model, 'student', last.model)
    assert all(in_layout(student.backbone)) and all(in_layout(student.bbox_head))
    for name, values in losses(plain).items():
        assert losses(last)[name] == pytest.approx(values, rel=1e-3, abs=1e-5), name
    found, expected = (
        torch.load(tmp_path / name / 'epoch_1.pth', weights_only=False)
        for name in ('last', 'plain')
    )
    for key in ('state_dict', 'ema_state_dict'):
        assert found[key].keys() == expected[key].keys()
        for name, value in found[key].items():
            assert value.is_contiguous(), name
            assert torch.allclose(value.float(), expected[key][name].float(), atol=1e-3), name
    for state in found['optimizer']['state'].values():
        assert state['exp_avg'].is_contiguous()
    parameter = student.backbone.layer1[0].conv1.weight
    state = last.optim_wrapper.optimizer.state[parameter]
    assert state['exp_avg'].stride() == parameter.stride()


NAMES = ['retinanet', 'yolox', 'faster_rcnn', 'deformable_detr']


@pytest.mark.parametrize('name', NAMES)
def test_detectors_of_each_kind(name, tmp_path):
    last, plain = (train(small(name), tmp_path / str(on), on, steps=1) for on in (True, False))
    assert all(in_layout(last.model.backbone)) and any(in_layout(last.model.neck))
    assert ('bbox_head' in parts_of(last.model)) == (name in ('retinanet', 'yolox'))
    for key, values in losses(plain).items():
        assert losses(last)[key] == pytest.approx(values, rel=1e-2, abs=1e-4), key


class Viewing(nn.Module):
    """Merges channels and rows, which ``view`` can in the usual layout only."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=8, padding=1)

    def forward(self, x):
        maps = self.conv(x)
        return (maps.view(len(maps), -1).view_as(maps),)


class Mistaking(Viewing):
    """Reads the memory as if it had the usual layout, as ops of some packages do."""

    def forward(self, x):
        maps = self.conv(x)
        stride = (maps[0].numel(), maps[0, 0].numel(), maps.size(-1), 1)
        return (maps.as_strided(maps.shape, stride),)


@pytest.mark.parametrize('kind, reason', [(Viewing, 'view size'), (Mistaking, 'maps differ by')])
def test_a_model_that_it_does_not_suit_is_left_as_it_is(kind, reason, tmp_path, logged):
    MODELS.register_module(kind.__name__, force=True, module=kind)
    config = small('retinanet')
    config.backbone, config.neck = dict(type=kind.__name__), None
    config.bbox_head.update(in_channels=8)
    config.bbox_head.anchor_generator.strides = [8]
    runner = train(config, tmp_path, steps=1)
    assert 'The student stays in the usual layout' in logged() and reason in logged()
    assert not any(in_layout(runner.model)) and runner.model.training


def copies(activation, inputs):
    """How often it copies what it reads, a result of something else."""
    inputs = inputs.requires_grad_() * 2
    with profile(activities=[ProfilerActivity.CPU]) as found:
        activation(inputs)
    return sum(event.key == 'aten::clone' for event in found.key_averages())


IN_PLACE = (*_COPYING, nn.ReLU6, nn.ReLU, nn.LeakyReLU, nn.ELU)


@pytest.mark.parametrize('kind', IN_PLACE)
def test_which_activations_copy_in_place(kind):
    """Torch's own; when it copies no longer, the list is not needed."""
    bounds = (0.1, 0.0) if kind is nn.Threshold else ()
    assert copies(kind(*bounds, inplace=True), torch.randn(4)) == issubclass(kind, _COPYING)
    assert not copies(kind(*bounds), torch.randn(4))


class Blocks(nn.Sequential):
    """A backbone of convolutions, one large and strided, and activations in place."""

    def __init__(self, **changes):
        super().__init__(
            nn.Conv2d(3, 64, 3, padding=1),
            nn.BatchNorm2d(64),
            nn.SiLU(inplace=True),
            nn.Conv2d(64, 8, 3, stride=2),
            nn.ReLU(inplace=True),
        )

    def forward(self, x):
        return (super().forward(x),)


class Wide(nn.Sequential):
    def forward(self, x):
        return (super().forward(x),)


class Reusing(Blocks):
    """Relies on an activation that writes over what it read."""

    def forward(self, x):
        found = self[1](self[0](x))
        self[2](found)
        return (self[4](self[3](found)),)


class Detector(nn.Module):
    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone

    def extract_feat(self, x):
        return self.backbone(x)


@pytest.mark.parametrize('recorded', [False, True])
def test_activations_write_over_what_a_recorder_reads_or_not_at_all(recorded):
    torch.manual_seed(0)
    model = Detector(Blocks())
    if recorded:
        model.backbone[1].register_forward_hook(lambda *_: None)
    plain, image = copy.deepcopy(model), torch.randn(1, 3, 160, 160)
    assert channels_last(model) == ''
    assert model.backbone[2].inplace == recorded and model.backbone[4].inplace
    assert [type(m) for m in model.backbone.children() if isinstance(m, nn.Conv2d)] == [
        nn.Conv2d,
        StridedConv2d,
    ]
    gradients = []
    for detector in (plain, model):
        (maps,) = detector.extract_feat(image)
        assert maps.is_contiguous()
        maps.square().mean().backward()
        gradients.append([p.grad for p in detector.parameters()])
    for found, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_wide_convolutions_multiply_less():
    torch.manual_seed(0)
    convs = nn.Conv2d(3, 128, 3, padding=1), nn.Conv2d(128, 256, 3, padding=1)
    model = Detector(Wide(*convs))
    plain, image = copy.deepcopy(model), torch.randn(1, 3, 32, 32)
    assert channels_last(model) == ''
    assert [type(module) for module in model.backbone] == [nn.Conv2d, WinogradConv2d]
    gradients = []
    for detector in (plain, model):
        (maps,) = detector.extract_feat(image)
        assert maps.is_contiguous()
        maps.square().mean().backward()
        gradients.append([maps, *(p.grad for p in detector.parameters())])
    for found, expected in zip(*gradients, strict=True):
        assert (found - expected).abs().max() <= 4e-6 * expected.abs().max()


def test_a_model_that_relies_on_them_is_left_as_it_is():
    torch.manual_seed(0)
    model = Detector(Reusing())
    assert 'its maps differ by' in channels_last(model)
    assert model.backbone[2].inplace and type(model.backbone[3]) is nn.Conv2d
