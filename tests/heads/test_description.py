"""What is said of a head before it runs is what its rows show."""

import re

import pytest
import torch
from torch import nn

from mmkd.heads import Batch, describe_head, predicting_head, read
from tests.heads import dense_cases, test_detr, test_roi
from tests.heads.dense_cases import CASES, INPUT, METAS, build, features
from tests.heads.models import small
from tests.tiny import ROOT

BATCH = Batch(INPUT, METAS)


def check(known, rows, cls=None):
    """Of class maps ``cls`` the channels count as well."""
    assert known.classes == rows.log_prob.size(2)
    if known.name not in ('SABLRetinaHead', 'SABLHead'):  # of their boxes, no map of its own
        assert (known.factor != '') == (rows.quality is not None)
    if rows.priors is None:
        assert known.rows in ('proposals', 'queries') and not known.strides
        return
    assert known.rows == 'priors'
    if known.priors is None:
        return
    per_level = list(known.priors.num_base_priors)
    assert known.priors_per_cell == per_level
    steps = {float(stride) for stride in known.strides}
    assert {float(s) for s in rows.priors[:, 2]} <= steps
    if cls is not None:
        channels = [known.class_channels * count for count in per_level[: len(cls)]]
        assert [level.size(1) for level in cls] == channels
        assert known.class_channels == known.classes + (known.sigmoid is False)


@pytest.mark.parametrize('name', [name for name in CASES if 'custom' not in name])
def test_dense_heads(name):
    head = build(CASES[name], name)
    with torch.no_grad():
        outputs = head(features(CASES[name]))
        rows = read(head, outputs, BATCH)
    known = describe_head(head)
    if name.startswith('YOLOV3'):  # all in one map
        check(known, rows)
        return
    check(known, rows, outputs[0])
    inside = all(((level >= 0) & (level <= 1)).all() for level in outputs[0])
    assert known.probabilities == inside


def test_heads_that_are_called_in_training_give_other_boxes():
    differ = set()
    for name in CASES:
        head = build(CASES[name], name)
        if describe_head(head).trained_otherwise:
            differ.add(type(head).__name__)
    assert differ >= {'VFNetHead', 'RepPointsHead', 'CenterNetUpdateHead', 'FCOSHead'}
    assert 'AutoAssignHead' not in differ and 'ATSSHead' not in differ


def test_mmyolos_heads():
    pytest.importorskip('mmyolo.models')
    from tests.heads import test_yolo

    for name in test_yolo.CASES:
        head = test_yolo.build(name)
        known = describe_head(head)
        assert known.classes == dense_cases.CLASSES and known.sigmoid
        assert (known.factor == 'objectness') == (head.loss_obj is not None)
        assert known.strides == [s if isinstance(s, int) else s[0] for s in head.featmap_strides]
        if 'YOLOv5' in name or 'YOLOv7' in name:
            assert known.raw_coder[1] == 'yolov5' and set(known.priors_per_cell) == {3}


@pytest.mark.parametrize('name', test_detr.CASES)
def test_detrs(name):
    known = describe_head(test_detr.build(name))
    assert known.rows == 'queries' and known.factor == '' and known.priors is None
    if 'Grounding' not in name:
        assert known.class_channels == known.classes + (known.sigmoid is False)


@pytest.mark.parametrize('name', test_roi.BOX_HEADS)
def test_box_heads(name):
    head = test_roi.make(dict(type=name.split()[0], **test_roi.BOX_HEADS[name]))
    known = describe_head(head)
    assert known.rows == 'proposals' and known.priors is None
    linear = getattr(head, 'fc_cls', None)
    if isinstance(linear, nn.Linear):
        assert known.class_channels == linear.out_features


@pytest.mark.parametrize(
    ('name', 'place', 'kind'),
    [
        ('faster_rcnn/faster-rcnn_r50_fpn_1x_coco', 'roi_head', 'Shared2FCBBoxHead'),
        ('cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco', 'roi_head', 'Shared2FCBBoxHead'),
        ('rpn/rpn_r50_fpn_1x_coco', 'bbox_head', 'RPNHead'),
        ('retinanet/retinanet_r50_fpn_1x_coco', 'bbox_head', 'RetinaHead'),
    ],
)
def test_the_head_that_a_detector_predicts_with(name, place, kind):
    from mmdet.registry import MODELS

    config = small(name)
    head = MODELS.build(dict(config, _scope_='mmdet'))
    found, module = predicting_head(head)
    known = describe_head(module)
    assert (found, known.name) == (place, kind)
    assert known.classes == (1 if kind == 'RPNHead' else 3)
    assert predicting_head(head.backbone) == ('', None)


class Mine(nn.Module):
    """A head of the user's own, of no base that is known."""

    def loss(self, features, samples):
        return {}

    def predict(self, features, samples):
        return []


def test_a_head_that_says_nothing_of_itself():
    known = describe_head(Mine())
    assert (known.name, known.rows, known.class_channels) == ('Mine', 'priors', 1)
    assert known.classes is known.sigmoid is known.priors is known.coder is None
    assert known.strides == known.priors_per_cell == [] and known.factor == ''
    assert known.bins == 1 and known.raw_coder == ('', None) and not known.trained_otherwise


def test_what_is_no_head_is_refused():
    from mmdet.registry import MODELS

    detector = MODELS.build(dict(small('retinanet/retinanet_r50_fpn_1x_coco'), _scope_='mmdet'))
    others = (nn.Linear(4, 3), nn.Identity(), nn.Conv2d(4, 3, 1), nn.ModuleList(), None)
    parts = (detector.backbone, detector.neck, detector.bbox_head.loss_cls)
    for module in (*others, *parts):
        name = type(module).__name__
        message = rf'must be given a head.*but got {name}, which is no head.*mmdet\.GFLHead.*@mmkd'
        with pytest.raises(ValueError, match=message):
            describe_head(module)
    with pytest.raises(ValueError, match=r'got RetinaNet, which is a whole model.*Name the head'):
        describe_head(detector)
    assert describe_head(detector.bbox_head).name == 'RetinaHead'


def test_the_page_says_so():
    page = (ROOT / 'docs/heads.md').read_text()
    [block] = [b for b in re.findall(r'```python\n(.*?)```', page, re.S) if 'describe_head(' in b]
    exec(block)
