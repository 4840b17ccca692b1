"""What is chosen among the rows of any detector is what its own ``predict`` finds."""

import types

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from torch import nn

from mmkd.export.reference import Found, Reference
from mmkd.export.rows_graph import RowsGraph, exported_head, levels_of
from mmkd.export.same_detections import unmatched
from mmkd.export.thresholds import thresholds
from mmkd_onnx.detections import choose
from tests.export.roi_kinds import KINDS, built
from tests.export.test_heads import KNOWN, SIZE, opened

RULES = dict(
    nms_pre=40,
    min_bbox_size=0,
    score_thr=0.1,
    conf_thr=0.1,  # of YOLOv3
    nms=dict(type='nms', iou_threshold=0.5),
    max_per_img=30,
    multi_label=True,
    topk=30,  # of CenterNet
    local_maximum_kernel=3,
    mask_thr_binary=0.5,
    iou_thr=0.5,  # of YOLACT, as the next
    top_k=30,
)
AGNOSTIC = dict(nms=dict(type='nms', iou_threshold=0.5, class_agnostic=True), nms_pre=1000)


def images(size):
    coarse = np.random.default_rng(1).integers(0, 256, (2, 3, size[0] // 8, size[1] // 8))
    return np.kron(coarse, np.ones((1, 1, 8, 8), int)).astype(np.uint8)


def faults(model, scope: str = 'mmdet', size: tuple[int, int] = SIZE) -> tuple[int, int]:
    """How many detections have no counterpart, and how many there are."""
    graph = RowsGraph(model, size).eval()
    reference, unlike, count = Reference(model, scope, size), 0, 0
    with torch.no_grad():
        found = graph.rows(torch.zeros(1, 3, *size))
        rules = thresholds(model, exported_head(model), found, levels_of(found))
        for image in images(size):
            boxes, scores, *factors = (o[0].numpy() for o in graph(torch.from_numpy(image[None])))
            [own] = reference.detections(image[None])
            found = Found(*choose(boxes, scores, rules, size, *factors))
            every = {**rules, 'score': 0.0} if factors else rules
            unlike += unmatched(own, found, every)[0]
            count += len(own.scores)
    return unlike, count


def dense(name: str, **rules):
    """A detector around a dense head whose rows differ."""
    model = opened(name)
    torch.manual_seed(3)
    for place, parameter in model.named_parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, 0, 0.9 / parameter[0].numel() ** 0.5)
        elif place.endswith('bias'):
            nn.init.zeros_(parameter)
    model.bbox_head.test_cfg = ConfigDict({**RULES, **rules})

    def predict(self, inputs, samples):
        outputs = self.bbox_head(self.extract_feat(inputs))
        metas = [sample.metainfo for sample in samples]
        found = self.bbox_head.predict_by_feat(*outputs, batch_img_metas=metas, rescale=False)
        for sample, one in zip(samples, found, strict=True):
            sample.pred_instances = one
        return samples

    model.predict = types.MethodType(predict, model)
    return model.eval()


#: Their ``predict_by_feat`` takes whole images, of which masks or poses are made.
WITH_MORE = ('mmyolo.YOLOv5InsHead', 'mmyolo.YOLOXPoseHead')


@pytest.mark.parametrize('rules', [{}, AGNOSTIC], ids=['', 'agnostic'])
@pytest.mark.parametrize('name', [name for name in KNOWN if name not in WITH_MORE])
def test_of_a_dense_head(name, rules):
    unlike, count = faults(dense(name, **rules), 'mmyolo' if 'mmyolo' in name else 'mmdet')
    assert unlike == 0 and count > 4


@pytest.mark.skipif('mmyolo.YOLOXHead' not in KNOWN, reason='MMYOLO is not installed')
def test_of_a_yolox_of_mmyolo():
    unlike, count = faults(dense('mmyolo.YOLOXHead', yolox_style=True, max_per_img=1), 'mmyolo')
    assert unlike == 0 and count > 4


@pytest.mark.parametrize('kind', KINDS)
def test_of_a_two_stage_detector(kind):
    unlike, count = faults(built(kind), size=(64, 96))
    assert unlike == 0 and count > 5


@pytest.mark.parametrize('name', ['RetinaHead', 'FCOSHead', 'faster'])
def test_of_boxes_that_no_coder_clips(name):
    """What lies outside the image counts when boxes are held against each other."""
    model = built(name) if name in KINDS else dense(name)
    heads = [getattr(model, key, None) for key in ('bbox_head', 'rpn_head')]
    for head in (*heads, getattr(getattr(model, 'roi_head', None), 'bbox_head', None)):
        if head is not None:
            head.bbox_coder.clip_border = False
    unlike, count = faults(model, size=(64, 96) if name in KINDS else SIZE)
    assert unlike == 0 and count > 4
