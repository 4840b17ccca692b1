"""SSD and RetinaNet: targets, mined negatives, gradients as in mmdet, whatever is in the batch."""

from unittest import mock

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mmdet.structures.bbox import HorizontalBoxes

from mmkd.targets import ground_truth as blocks
from mmkd.targets import ssd_head
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
    total,
)

SSD = dict(
    type='SSDHead',
    in_channels=(8, 8, 8),
    num_classes=CLASSES,
    anchor_generator=dict(
        type='SSDAnchorGenerator',
        scale_major=False,
        strides=STRIDES,
        ratios=[[2], [2, 3], [2]],
        min_sizes=[12, 28, 44],
        max_sizes=[28, 44, 60],
    ),
    bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_stds=[0.1, 0.1, 0.2, 0.2]),
)
RETINA = dict(
    type='RetinaHead',
    num_classes=CLASSES,
    in_channels=8,
    feat_channels=8,
    anchor_generator=dict(
        type='AnchorGenerator',
        strides=STRIDES,
        octave_base_scale=2,
        scales_per_octave=2,
        ratios=[0.5, 1.0],
    ),
    bbox_coder=SSD['bbox_coder'],
)
assigners = st.builds(
    dict,
    type=st.just('MaxIoUAssigner'),
    pos_iou_thr=st.sampled_from([0.3, 0.5]),
    neg_iou_thr=st.sampled_from([0.3, 0.5, (0.1, 0.3)]),
    min_pos_iou=st.sampled_from([0.0, 0.2]),
    gt_max_assign_all=st.booleans(),
    match_low_quality=st.sampled_from([True, True, False]),
    ignore_iof_thr=st.sampled_from([-1, 0.4]),
    ignore_wrt_candidates=st.booleans(),
)
train_cfgs = st.builds(
    dict,
    assigner=assigners,
    sampler=st.just(dict(type='PseudoSampler')),
    allowed_border=st.sampled_from([-1, -1, 0, 8]),
    pos_weight=st.sampled_from([-1, 2.0]),
    neg_pos_ratio=st.sampled_from([1, 3]),
    smoothl1_beta=st.sampled_from([1.0, 0.1]),
)
MANY = dict(images=[([('any', 150)], [], False)] * 2, shapes=[(64, 64)] * 4, logits='any', seed=0)
NONE = dict(MANY, images=[([], [], True)] * 2)
USUAL = dict(
    assigner=dict(type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.5, gt_max_assign_all=False),
    sampler=dict(type='PseudoSampler'),
    allowed_border=-1,
    pos_weight=-1,
    neg_pos_ratio=3,
    smoothl1_beta=1.0,
)


@pytest.mark.parametrize('config', [SSD, RETINA], ids=['ssd', 'retina'])
@settings(max_examples=30, deadline=None)
@given(
    batch=batches,
    train_cfg=train_cfgs,
    decoded=st.booleans(),
    pairs=st.sampled_from([1, 2**15, 2**22]),
    of_type=st.booleans(),
)
@example(batch=MANY, train_cfg=USUAL, decoded=False, pairs=2**22, of_type=False)
@example(batch=NONE, train_cfg=USUAL, decoded=False, pairs=2**22, of_type=True)
def test_as_in_mmdet(config, batch, train_cfg, decoded, pairs, of_type):
    head, batched = both({**config, 'reg_decoded_bbox': decoded}, train_cfg)
    truth, metas, ignored = ground_truth(batch)
    for one in truth if of_type else ():
        one.bboxes = HorizontalBoxes(one.bboxes)
    anchors = head.get_anchors(MAPS, metas, device='cpu')
    with mock.patch.dict(blocks._PAIRS, cpu=pairs):
        try:
            own = head.get_targets(*anchors, truth, metas, ignored)
        except ValueError as error:
            with pytest.raises(ValueError, match=str(error)[:40]):
                batched.get_targets(*batched.get_anchors(MAPS, metas, 'cpu'), truth, metas, ignored)
            return
        ours = batched.get_targets(*batched.get_anchors(MAPS, metas, 'cpu'), truth, metas, ignored)
        equal(ours[:4], own[:4])
        assert int(ours[4]) == own[4]
        priors = head.prior_generator.num_base_priors
        widths = [n * head.cls_out_channels for n in priors], [4 * n for n in priors]
        same_losses(head, batched, outputs(batch, *widths), truth, metas, ignored)


@given(
    st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=1, max_size=40),
    st.integers(0, 60),
)
def test_hard_negatives_of_a_gpu_are_the_first_of_the_greatest(values, number):
    """The way without a wait, which a GPU takes, beside a plain sort."""
    loss = torch.tensor([[float(value) for value, _ in values]])
    negative = torch.tensor([[is_negative for _, is_negative in values]])
    places = [i for i, (_, is_negative) in enumerate(values) if is_negative]
    expected = sorted(sorted(places, key=lambda i: -values[i][0])[:number])
    found = ssd_head._greatest(loss, negative, torch.tensor([number]))
    assert found[0].nonzero().squeeze(1).tolist() == expected


def test_both_ways_to_hard_negatives_agree_without_ties():
    generator = torch.Generator().manual_seed(0)
    loss = torch.rand(5, 400, generator=generator)
    negative = torch.rand(5, 400, generator=generator) < torch.tensor([[0.0, 0.1, 0.5, 0.9, 1.0]]).T
    number = torch.tensor([3, 60, 0, 30, 9])
    found = ssd_head.hard_negatives(loss, negative, number)
    assert found.sum(1).tolist() == [0, min(60, int(negative[1].sum())), 0, 30, 9]
    assert torch.equal(found, ssd_head._greatest(loss, negative, number))


def test_the_loss_of_what_is_not_mined_may_be_infinite():
    """Without an object nothing is mined, so the loss is 0."""
    head, batched = both(SSD, USUAL)
    truth, metas, ignored = ground_truth(NONE)
    priors = head.prior_generator.num_base_priors
    maps = outputs(NONE, [n * (CLASSES + 1) for n in priors], [4 * n for n in priors])
    with torch.no_grad():
        maps[0][0][0, CLASSES, 0, 0] = -torch.inf
    for one in (head, batched):
        losses = one.loss_by_feat(*maps, truth, metas, ignored)
        assert float(total(losses['loss_cls']).detach()) == 0
