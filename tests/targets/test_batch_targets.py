"""Which heads find targets at once, what is said of the others, and what goes on working."""

import copy
import pickle
import re
from types import SimpleNamespace
from unittest import mock

import pytest
import torch
from mmdet.models.dense_heads import RetinaHead, RTMDetInsHead, SSDHead
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from mmrazor.models.task_modules.recorder import MethodOutputsRecorder
from torch import nn

from mmkd.compat.heads import OWN_METHODS
from mmkd.targets.batch_targets import batch_targets
from tests.heads.dense_cases import CASES
from tests.targets.batches import MAPS, equal, ground_truth
from tests.targets.test_anchor_heads import MANY, RETINA, SSD, USUAL
from tests.targets.test_fcos_head import FCOS
from tests.targets.test_rtmdet_head import RTMDET
from tests.tiny import raw_batch, tiny_pair, tiny_yolov5

pytestmark = pytest.mark.usefixtures('mmdet_scope')
ATSS = dict(type='ATSSAssigner', topk=9)


def build(config: dict, **train_cfg) -> nn.Module:
    cfg = ConfigDict({**copy.deepcopy(USUAL), **train_cfg})
    return MODELS.build(copy.deepcopy({**config, 'train_cfg': cfg}))


class Faster(RetinaHead):
    """Of a user: it does what RetinaHead does."""

    def loss_by_feat_single(self, *args, **kwargs):
        return super().loss_by_feat_single(*args, **kwargs)


class Other(RetinaHead):
    """Of a user: it finds other targets."""

    def _get_targets_single(self, *args, **kwargs):
        return super()._get_targets_single(*args, **kwargs)


def kind_of(kind: type) -> nn.Module:
    head = build(RETINA)
    head.__class__ = kind
    return head


def rtmdet_of_masks() -> nn.Module:
    head = build(RTMDET, assigner=dict(type='DynamicSoftLabelAssigner'))
    head.__class__ = RTMDetInsHead
    return head


MAX_IOU = USUAL['assigner']


@pytest.mark.parametrize(
    ('head', 'fault'),
    [
        (lambda: build(SSD), None),
        (lambda: build(RETINA), None),
        (lambda: build(FCOS), None),
        (lambda: build(RTMDET, assigner=dict(type='DynamicSoftLabelAssigner')), None),
        (lambda: build(RTMDET), 'MaxIoUAssigner is no DynamicSoftLabelAssigner'),
        (lambda: rtmdet_of_masks(), 'RTMDetInsHead has a loss of its own'),
        (lambda: kind_of(Faster), None),
        (lambda: build(RETINA, assigner={**MAX_IOU, 'gpu_assign_thr': 10}), None),
        (lambda: kind_of(Other), r"Other\._get_targets_single is not that of mmdet's AnchorHead"),
        (lambda: build(RETINA, assigner=ATSS), 'ATSSAssigner is no MaxIoUAssigner'),
        (
            lambda: build(
                RETINA, sampler=dict(type='RandomSampler', num=9, pos_fraction=0.5, neg_pos_ub=-1)
            ),
            'RandomSampler is no PseudoSampler',
        ),
        (
            lambda: build(RETINA, assigner={**MAX_IOU, 'perm_repeat_gt_cfg': dict()}),
            'moves repeated boxes at random',
        ),
        (
            lambda: build({**RETINA, 'bbox_coder': dict(type='TBLRBBoxCoder')}),
            'TBLRBBoxCoder is no DeltaXYWHBBoxCoder',
        ),
        (
            lambda: build(
                RETINA, assigner={**MAX_IOU, 'iou_calculator': dict(type='BboxOverlaps2D_GLIP')}
            ),
            r'BboxOverlaps2D_GLIP\.__call__ is not that',
        ),
        (lambda: MODELS.build(copy.deepcopy({**RETINA, 'train_cfg': None})), 'NoneType is no Max'),
        (
            lambda: MODELS.build(copy.deepcopy(dict(CASES['YOLOXHead'].config, type='YOLOXHead'))),
            'it is none of SSDHead',
        ),
        (
            lambda: build(dict(CASES['ATSSHead'].config, type='ATSSHead'), assigner=ATSS),
            r'ATSSHead\._get_targets_single is not',
        ),
    ],
)
def test_a_line_says_which_and_why(head, fault):
    model = nn.ModuleDict(dict(bbox_head=head()))
    expected = 'of the whole batch at once' if fault is None else f'image by image, since .*{fault}'
    (line,) = batch_targets(model)
    kind = type(model.bbox_head).__name__
    assert line.startswith(f'bbox_head ({kind}) finds targets ')
    assert re.search(expected, line)
    assert hasattr(model.bbox_head, OWN_METHODS) is (fault is None)
    assert batch_targets(model) == [line], 'twice is once'


def test_a_head_beside_masks_stays():
    model = nn.ModuleDict(dict(bbox_head=build(RETINA), mask_head=nn.Identity()))
    (line,) = batch_targets(model)
    assert line.endswith('image by image, since a mask head needs the samples of each image')


def test_nothing_is_said_of_mmyolos_heads():
    pytest.importorskip('mmyolo')
    with DefaultScope.overwrite_default_scope('mmyolo'):
        assert batch_targets(MODELS.build(tiny_yolov5())) == []


def test_a_method_that_a_recorder_watches_and_that_is_no_longer_called():
    """Another recorder, of what is called, goes on working: see below."""
    head = build(SSD)
    with mock.patch.object(SSDHead, 'loss_by_feat_single'):
        (line,) = batch_targets(nn.ModuleDict(dict(bbox_head=head)))
    assert 'SSDHead.loss_by_feat_single is not that' in line
    head.assigner.assign = head.assigner.assign
    (line,) = batch_targets(nn.ModuleDict(dict(bbox_head=head)))
    assert 'MaxIoUAssigner.assign is not that' in line


def test_a_recorder_sees_the_targets(monkeypatch):
    monkeypatch.setattr(SSDHead, 'get_targets', SSDHead.get_targets)  # put back after the test
    recorder = MethodOutputsRecorder('mmdet.models.dense_heads.ssd_head.SSDHead.get_targets')
    recorder.initialize()
    head = build(SSD)
    own = copy.deepcopy(head)
    batch_targets(head)
    truth, metas, ignored = ground_truth(MANY)
    records = []
    for one in (head, own):
        with recorder:
            one.get_targets(*one.get_anchors(MAPS, metas, 'cpu'), truth, metas, ignored)
        records += recorder.data_buffer
    recorded, expected = records
    equal(recorded[:4], expected[:4])
    assert isinstance(recorded[4], torch.Tensor) and int(recorded[4]) == expected[4]


def test_what_is_asked_otherwise_is_answered_by_mmdet():
    """As PISA and YOLACT do, for the samples of each image; or with other anchors for each."""
    head = build(RETINA)
    own = copy.deepcopy(head)
    batch_targets(head)
    truth, metas, _ = ground_truth(MANY)
    anchors, flags = own.get_anchors(MAPS, metas, 'cpu')
    result = head.get_targets(anchors, flags, truth, metas, return_sampling_results=True)
    assert len(result[5]) == len(truth) and type(result[4]) is int
    apart = [[level.clone() for level in image] for image in anchors]
    assert type(head.get_targets(apart, flags, truth, metas)[4]) is int


def test_a_copy_finds_its_own_targets():
    """An EMA keeps one, and a checkpoint may hold a whole model."""
    head = build(SSD)
    batch_targets(head)
    for twin in (copy.deepcopy(head), pickle.loads(pickle.dumps(head))):
        twin.num_classes = 7
        truth, metas, ignored = ground_truth(MANY)
        labels = twin.get_targets(*twin.get_anchors(MAPS, metas, 'cpu'), truth, metas, ignored)[0]
        assert int(torch.cat(labels, 1).max()) == 7
    assert list(head.state_dict()) == list(build(SSD).state_dict())


@pytest.mark.parametrize('autocast', [False, True])
def test_a_pair_takes_the_same_step(autocast):
    """With the recipe that records the student's targets; in mixed precision, too."""
    weights = []
    for at_once in (False, True):
        torch.manual_seed(0)
        pair = MODELS.build(tiny_pair())
        assert not at_once or batch_targets(pair)[0].startswith('architecture.bbox_head (SSDHead)')
        pair.train()
        optimizer = torch.optim.SGD(pair.parameters(), 0.01)
        for seed in range(2):
            data = pair.data_preprocessor(raw_batch(3, seed=seed), True)
            with torch.autocast('cpu', torch.bfloat16, enabled=autocast):
                losses = pair(**data, mode='loss')
            optimizer.zero_grad()
            pair.parse_losses(losses)[0].backward()
            optimizer.step()
        weights.append(SimpleNamespace(losses=losses, state=pair.state_dict()))
    own, ours = weights
    assert all(torch.equal(value, ours.state[name]) for name, value in own.state.items())
    assert set(own.losses) == set(ours.losses)
