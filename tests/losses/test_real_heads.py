"""The losses on maps and targets of real heads, of the two model families that they are for."""

import pytest
import torch
from mmdet.models.dense_heads import YOLOV3Head
from mmdet.registry import MODELS
from mmdet.structures.bbox import bbox_overlaps
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from torch import nn

from mmkd.connectors import SplitPredMaps
from mmkd.losses import (
    ObjScaledBoxCls,
    TeacherBoundedReg,
    TeacherScaledCls,
    TeacherScaledReg,
    WeightedSoftCls,
)

SIZES = [(8, 8), (4, 4), (2, 2)]


def features():
    return tuple(torch.randn(2, 8, *size) for size in SIZES)


def ssd_head():
    return MODELS.build(
        {
            'type': 'SSDHead',
            'in_channels': (8, 8, 8),
            'num_classes': 3,
            'anchor_generator': {
                'type': 'SSDAnchorGenerator',
                'scale_major': False,
                'strides': [8, 16, 32],
                'ratios': [[2], [2, 3], [2]],
                'min_sizes': [12, 28, 44],
                'max_sizes': [28, 44, 60],
            },
            'bbox_coder': {
                'type': 'DeltaXYWHBBoxCoder',
                'target_means': [0.0] * 4,
                'target_stds': [0.1, 0.1, 0.2, 0.2],
            },
            'train_cfg': {
                'assigner': {
                    'type': 'MaxIoUAssigner',
                    'pos_iou_thr': 0.5,
                    'neg_iou_thr': 0.5,
                    'min_pos_iou': 0.0,
                    'gt_max_assign_all': False,
                },
                'sampler': {'type': 'PseudoSampler'},
                'smoothl1_beta': 1.0,
                'allowed_border': -1,
                'pos_weight': -1,
                'neg_pos_ratio': 3,
            },
        }
    )


def ssd_maps_and_targets(boxes):
    """A student's maps, a teacher's, and what the student's get_targets returned."""
    student, teacher = ssd_head(), ssd_head()
    instances = [InstanceData(bboxes=b, labels=torch.zeros(len(b)).long()) for b in boxes]
    metas = [{'img_shape': (64, 64), 'pad_shape': (64, 64)}] * 2
    maps = student(features())
    anchors, valid = student.get_anchors(SIZES, metas, device='cpu')
    targets = student.get_targets(anchors, valid, instances, metas)
    return student, maps, teacher(features()), targets


def reaches(loss, module):
    loss.backward()
    return [p.grad is not None and bool(p.grad.any()) for p in module.parameters()]


BOX = torch.tensor([[5.0, 5.0, 30.0, 40.0], [20.0, 20.0, 60.0, 60.0]])


def test_ssd():
    student, maps, other, targets = ssd_maps_and_targets([BOX, BOX[:0]])
    soft, bounded = WeightedSoftCls(loss_weight=1.0), TeacherBoundedReg(loss_weight=1.0)
    value = soft(maps[0], other[0], targets) + bounded(maps[1], other[1], targets)
    assert value > 0
    assert any(reaches(value, student))
    positives = sum((labels < 3).sum().item() for labels in targets[0])
    # of two images; the one without objects mines nothing
    assert soft.logs['mined'].item() == pytest.approx(4 * positives / 2)
    # mmdet counts the image without positives as one
    assert targets[4] == positives + 1


def test_ssd_without_any_object():
    student, maps, other, targets = ssd_maps_and_targets([BOX[:0], BOX[:0]])
    value = WeightedSoftCls()(maps[0], other[0], targets)
    value = value + TeacherBoundedReg()(maps[1], other[1], targets)
    assert value.item() == 0
    value.backward()
    assert all(p.grad is not None and not p.grad.any() for p in student.parameters())


def test_ssd_where_the_teacher_sees_objects():
    """Level by level, with as many priors in each as the head says."""
    student, maps, other, _ = ssd_maps_and_targets([BOX, BOX[:0]])
    priors = student.prior_generator.grid_priors(SIZES, device='cpu')
    total = weights = 0.0
    for image in range(2):
        for level, anchors in enumerate(priors):
            logits, *deltas = (
                of_level[level][image].permute(1, 2, 0).reshape(len(anchors), -1)
                for of_level in (other[0], maps[1], other[1])
            )
            weight = 1 - logits.softmax(-1)[:, -1]
            boxes = [student.bbox_coder.decode(anchors, delta) for delta in deltas]
            overlap = bbox_overlaps(*boxes, mode='giou', is_aligned=True)
            total += (weight * (1 - overlap)).sum().item()
            weights += weight.sum().item()
    coder, generator = student.bbox_coder, student.prior_generator
    box = TeacherScaledReg(box_loss='giou', prior_generator=generator, bbox_coder=coder)
    value = box(maps[1], other[1], other[0])
    assert value.item() == pytest.approx(total / weights, rel=1e-5)
    value = value + TeacherScaledCls(3)(maps[0], other[0])
    assert all(reaches(value, student))


class YoloV3(nn.Module):
    """A YOLOv3 head behind the connector that its maps need."""

    def __init__(self):
        super().__init__()
        self.head = YOLOV3Head(num_classes=3, in_channels=(8, 8, 8), out_channels=(8, 8, 8))
        self.split = SplitPredMaps(3)

    def forward(self, x):
        return self.split(self.head(x))


def yolox():
    return MODELS.build(
        {'type': 'YOLOXHead', 'num_classes': 3, 'in_channels': 8, 'feat_channels': 8}
    )


def mmyolo_head(kind):
    heads = pytest.importorskip('mmyolo.models').dense_heads
    module = {'type': f'mmyolo.{kind}HeadModule', 'num_classes': 3, 'in_channels': [8] * 3}
    with DefaultScope.overwrite_default_scope('mmyolo'):
        return getattr(heads, f'{kind}Head')(module)


HEADS = {
    'mmdet YOLOv3': (YoloV3, 'yolov3'),
    'mmdet YOLOX': (yolox, 'yolox'),
    'MMYOLO YOLOv5': (lambda: mmyolo_head('YOLOv5'), 'yolov5'),
    'MMYOLO YOLOv7': (lambda: mmyolo_head('YOLOv7'), 'yolov5'),
}


@pytest.mark.parametrize('box_loss', ['decoded', 'ciou'])
@pytest.mark.parametrize('name', HEADS)
def test_yolo_heads(name, box_loss):
    make, coder = HEADS[name]
    student, teacher = make(), make()
    generator = getattr(student, 'head', student).prior_generator
    loss = ObjScaledBoxCls(3, box_loss=box_loss, bbox_coder=coder, prior_generator=generator)
    value = loss(student(features()), teacher(features()))
    assert value > 0 and all(loss.logs[term] > 0 for term in ('box', 'cls', 'obj'))
    assert all(reaches(value, student))


def test_a_head_without_objectness():
    anchors = {
        'type': 'AnchorGenerator',
        'strides': [8, 16, 32],
        'ratios': [1.0],
        'octave_base_scale': 4,
        'scales_per_octave': 1,
    }
    head = {
        'type': 'RetinaHead',
        'num_classes': 3,
        'in_channels': 8,
        'feat_channels': 8,
        'stacked_convs': 1,
        'anchor_generator': anchors,
    }
    student, teacher = MODELS.build(head), MODELS.build(head)
    loss = ObjScaledBoxCls(3, box_loss='l2')
    value = loss(student(features()), teacher(features()))
    assert value > 0 and loss.logs['obj'] == 0
    assert all(reaches(value, student))
