"""What a config of others counts or resizes to is bounded, and no config in use is refused."""

import time

import pytest
import torch
from mmengine.config import Config

from mmkd.checkpoints.absurd_numbers import absurd_numbers
from mmkd.checkpoints.registered_config import registered_config
from mmkd.checkpoints.registered_parts import Bounded, NotBuilt
from tests.shipped import SHIPPED, shipped_student
from tests.tiny import tiny_ssd

RESIZE = dict(type='Resize', scale=(640, 640), keep_ratio=False)


def refused(match: str, pipeline=(RESIZE,), **changes) -> None:
    model = {**tiny_ssd(), **changes}
    data = dict(dataset=dict(type='CocoDataset', pipeline=list(pipeline)))
    config = Config(dict(default_scope='mmdet', model=model, test_dataloader=data))
    held = dict(meta=dict(cfg=config.pretty_text), state_dict={})
    start = time.process_time()
    with pytest.raises(ValueError, match=f'"a.pth" has one with {match}'):
        registered_config(held, 'a.pth', student=True)
    assert time.process_time() - start < 5


@pytest.mark.usefixtures('mmdet_scope')
def test_numbers_that_no_detector_has_are_told():
    neck = dict(type='FPN', in_channels=[16, 32], out_channels=8, num_outs=10**9)
    refused(r'num_outs=1e\+09, where none counts more than 1000000', neck=neck)
    anchors = dict(type='AnchorGenerator', strides=[8], ratios=[1.0], octave_base_scale=4)
    head = {
        **tiny_ssd()['bbox_head'],
        'anchor_generator': {**anchors, 'scales_per_octave': 10**400},
    }
    refused('scales_per_octave=more than 1e300', bbox_head=head)
    padded = dict(type='DetDataPreprocessor', pad_size_divisor=10**5)
    refused('pad_size_divisor=100000, where no image has a side', data_preprocessor=padded)
    for step in (
        {**RESIZE, 'scale': (640, 10**5)},
        {**RESIZE, 'scale': (10**5, 10**5), 'keep_ratio': True},
        dict(type='Pad', size=(10**5, 64)),
        dict(type='Pad', size_divisor=10**5),
    ):
        refused(r'\w+=100000, where no image has a side of more than 16384 pixels', [step])


@pytest.mark.parametrize(
    'model',
    [
        dict(type='FCOS', bbox_head=dict(regress_ranges=((-1, 64), (64, 10**8)))),
        dict(test_cfg=dict(nms_pre=10**9), train_cfg=dict(pos_weight=-(10**9))),
        dict(backbone=dict(init_cfg=dict(type='Normal', seed=2**32 - 1), depth=18)),
        dict(positional_encoding=dict(temperature=10000, normalize=True)),
    ],
)
def test_numbers_that_stand_for_infinity_are_in_use(model):
    pipeline = [{**RESIZE, 'scale': (10**8, 800), 'keep_ratio': True}]
    assert list(absurd_numbers(model, dict(model=model, pipeline=pipeline))) == []


def test_no_shipped_config_is_refused():
    assert len(SHIPPED) > 40
    for path in SHIPPED:
        config = shipped_student(path).to_dict()
        assert list(absurd_numbers(config['model'], config)) == [], path


def test_what_comes_of_several_tensors_is_bounded():
    many = torch.arange(20_000.0)
    with pytest.raises(NotBuilt, match='far more weights'), Bounded([]):
        many[:, None] * many[None]
    with pytest.raises(NotBuilt, match='far more weights'), Bounded([]):
        many.repeat(20_000)
    with Bounded([]):
        assert many[:, None].expand(-1, 20_000).numel() == 4 * 10**8  # a view
        assert (many * 2 + many).numel() == 20_000
