"""RTMDet: targets and gradients as in mmdet, whatever is in the batch."""

from unittest import mock

import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from mmkd.targets import dynamic_soft_label
from mmkd.targets import ground_truth as blocks
from tests.targets.batches import (
    CLASSES,
    MAPS,
    STRIDES,
    batches,
    both,
    equal,
    ground_truth,
    outputs,
    same_losses,
)
from tests.targets.test_anchor_heads import MANY, NONE

RTMDET = dict(
    type='RTMDetHead',
    num_classes=CLASSES,
    in_channels=8,
    feat_channels=8,
    stacked_convs=1,
    anchor_generator=dict(type='MlvlPointGenerator', offset=0, strides=STRIDES),
    bbox_coder=dict(type='DistancePointBBoxCoder'),
    loss_cls=dict(type='QualityFocalLoss', use_sigmoid=True),
    loss_bbox=dict(type='GIoULoss'),
    norm_cfg=dict(type='BN'),
)
USUAL = dict(
    assigner=dict(type='DynamicSoftLabelAssigner', topk=13), allowed_border=-1, pos_weight=-1
)


def maps_of(batch: dict) -> list:
    """Scores, and distances of up to 30 px."""
    scores, distances = outputs(batch, [CLASSES] * 3, [4] * 3)
    return [scores, [(m.detach().abs() * 15).requires_grad_() for m in distances]]


train_cfgs = st.builds(
    dict,
    assigner=st.builds(
        dict, type=st.just('DynamicSoftLabelAssigner'), topk=st.sampled_from([13, 2])
    ),
    allowed_border=st.sampled_from([-1, -1, 40]),
    pos_weight=st.sampled_from([-1, 2.0]),
)


@settings(max_examples=15, deadline=None)
@given(batch=batches, train_cfg=train_cfgs, pairs=st.sampled_from([1, 2**22]))
@example(batch=MANY, train_cfg=USUAL, pairs=2**22)
@example(batch=NONE, train_cfg=USUAL, pairs=2**22)
def test_as_in_mmdet(batch, train_cfg, pairs):
    head, batched = both(RTMDET, train_cfg)
    with mock.patch.dict(blocks._PAIRS, cpu=pairs):
        same_losses(head, batched, maps_of(batch), *ground_truth(batch))


@settings(max_examples=15, deadline=None)
@given(batch=batches)
@example(batch=MANY)
def test_the_way_of_a_gpu_finds_the_same_targets_where_no_costs_are_equal(batch):
    assume('huge' not in str(batch))  # far from the centre, where all costs are infinite
    batch = dict(batch, logits='any')
    head, batched = both(RTMDET, USUAL)
    truth, metas, ignored = ground_truth(batch)
    scores, distances = maps_of(batch)
    scores, boxes = (
        torch.cat([m.detach().flatten(2).mT for m in maps], 1) for maps in (scores, distances)
    )
    points = torch.cat(head.prior_generator.grid_priors(MAPS, device='cpu'))
    boxes = torch.cat([points - boxes[..., :2], points + boxes[..., 2:]], -1)
    found = []
    with mock.patch.object(dynamic_soft_label, '_match_in_turn', dynamic_soft_label._match_at_once):
        for one in (batched, head):
            anchors = one.get_anchors(MAPS, metas, device='cpu')
            anchors = [list(part) for part in anchors]
            found.append(one.get_targets(scores, boxes, *anchors, truth, metas, ignored)[:5])
    equal(*found)
