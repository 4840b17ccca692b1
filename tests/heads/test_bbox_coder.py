"""Decoding equals that of the heads' own coders."""

import pytest
import torch
from mmdet.models.dense_heads import YOLOXHead
from mmdet.models.task_modules.coders import YOLOBBoxCoder

from mmkd.heads.bbox_coder import activate, decode
from mmkd.heads.level_anchors import build_task_util, level_priors

STRIDE = 8
SIZE = (3, 5)
ANCHORS = {
    'type': 'YOLOAnchorGenerator',
    'base_sizes': [[(10, 13), (16, 30)]],
    'strides': [STRIDE],
}
POINTS = {'type': 'MlvlPointGenerator', 'strides': [STRIDE], 'offset': 0}


def ours(raw, config, coder):
    boxes = decode(raw.unflatten(1, (-1, 4)), *level_priors(config)[0], coder)
    return boxes.permute(0, 2, 3, 1, 4).flatten(1, 3)  # (B, H * W * A, 4), as the heads flatten


def flat(raw):
    return raw.permute(0, 2, 3, 1).reshape(len(raw), -1, 4)


def test_yolov5():
    coders = pytest.importorskip('mmyolo.models.task_modules.coders')
    raw = torch.randn(2, 8, *SIZE)
    (priors,) = build_task_util(ANCHORS).grid_priors([SIZE], device='cpu')
    stride = torch.full((len(priors),), float(STRIDE))
    expected = coders.YOLOv5BBoxCoder().decode(priors, flat(raw), stride)
    assert torch.allclose(ours(raw, ANCHORS, 'yolov5'), expected, atol=1e-4)


def test_yolov3():
    raw = torch.randn(2, 8, *SIZE)
    (priors,) = build_task_util(ANCHORS).grid_priors([SIZE], device='cpu')
    pred = flat(raw)
    pred = torch.cat([pred[..., :2].sigmoid(), pred[..., 2:]], -1)  # as YOLOV3Head does
    expected = YOLOBBoxCoder().decode(priors, pred, torch.full((len(priors), 1), float(STRIDE)))
    assert torch.allclose(ours(raw, ANCHORS, 'yolov3'), expected, atol=1e-4)


def test_yolox():
    raw = torch.randn(2, 4, *SIZE)
    (priors,) = build_task_util(POINTS).grid_priors([SIZE], device='cpu', with_stride=True)
    expected = YOLOXHead._bbox_decode(None, priors, flat(raw))
    assert torch.allclose(ours(raw, POINTS, 'yolox'), expected, atol=1e-4)


def test_activate_is_what_decoding_starts_from():
    raw = torch.randn(1, 1, 4, 2, 2)
    assert torch.equal(activate(raw, 'yolov5'), raw.sigmoid())
    assert torch.equal(activate(raw, 'yolov3')[:, :, :2], raw[:, :, :2].sigmoid())
    assert torch.equal(activate(raw, 'yolov3')[:, :, 2:], raw[:, :, 2:])
    assert torch.equal(activate(raw, 'yolox'), raw)
