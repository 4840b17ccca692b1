"""Rows of Cascade RPN, whose later stages stand on moved anchors."""

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope

from mmkd.heads import Batch, read
from mmkd.recorders.head_watch import watch
from tests.heads.dense_cases import INPUT, METAS, SHAPES, SIZES, UNFILTERED, anchors
from tests.heads.same import assert_rows_are_the_heads_own

ALONE = ('CascadeRPNHead', 'StageCascadeRPNHead')
BATCH = Batch(INPUT, METAS)
STAGE = dict(
    type='StageCascadeRPNHead',
    in_channels=8,
    feat_channels=8,
    anchor_generator=anchors(scales=[4], ratios=[1.0]),
    loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=True),
    loss_bbox=dict(type='IoULoss', linear=True),
    reg_decoded_bbox=True,
)


@pytest.fixture
def head():
    torch.manual_seed(0)
    config = dict(
        type='CascadeRPNHead',
        num_stages=2,
        num_classes=1,
        stages=[
            dict(
                STAGE,
                adapt_cfg=dict(type='dilation', dilation=3),
                bridged_feature=True,
                with_cls=False,
            ),
            dict(STAGE, adapt_cfg=dict(type='offset'), bridged_feature=False),
        ],
        train_cfg=[{}, {}],
        test_cfg=UNFILTERED,
    )
    with DefaultScope.overwrite_default_scope('mmdet'):
        head = MODELS.build(ConfigDict(config))
    for parameter in head.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, 0, 0.2)
    return head.eval()


def test_rows_are_the_heads_own(head):
    leaves = [torch.randn(2, 8, *size, requires_grad=True) for size in SIZES]
    with watch(head) as runs:
        own = head.predict(tuple(leaves), [DetDataSample(metainfo=meta) for meta in METAS])
    found = read(head, runs[0], BATCH)
    for b in (0, 1):
        assert_rows_are_the_heads_own(found, b, own[b], SHAPES[b], 1)
    (found.logits.sum() + found.boxes.sum()).backward()
    assert all(leaf.grad.any() for leaf in leaves)
    with pytest.raises(ValueError, match='with_cls=False'):
        read(head.stages[0], runs[0][0], BATCH)
    alone = read(head.stages[1], runs[0][1], BATCH)
    assert torch.equal(alone.log_prob, found.log_prob)
