"""The student in channels-last memory format: the same training, in another layout."""

import copy

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.hooks import EMAHook
from torch import nn

from mmkd.hooks import ChannelsLastHook
from mmkd.hooks.channels_last_hook import parts_of
from mmkd.runner.exact_runner import ExactRunner
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
