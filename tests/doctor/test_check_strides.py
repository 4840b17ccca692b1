"""Strides that contradict the maps are told, and no others."""

import pytest
import torch
from mmengine.registry import DefaultScope

from mmkd.algorithms.build_detector import build_detector
from mmkd.doctor.check_strides import Strides
from mmkd.doctor.report import Section
from tests.heads.models import small
from tests.tiny import fast_batch, raw_batch, tiny_ssd, tiny_yolov5

NAMES = {
    'fcos': 'fcos/fcos_r50-caffe_fpn_gn-head_1x_coco',
    'retinanet': 'retinanet/retinanet_r50_fpn_1x_coco',
    'rtmdet': 'rtmdet/rtmdet_tiny_8xb32-300e_coco',
    'gfl': 'gfl/gfl_r50_fpn_1x_coco',
    'reppoints': 'reppoints/reppoints-moment_r50_fpn_1x_coco',
    'faster': 'faster_rcnn/faster-rcnn_r50_fpn_1x_coco',
    'cascade': 'cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco',
    'detr': 'detr/detr_r50_8xb2-150e_coco',
}


def findings(model, size: int = 128) -> list[str]:
    section, strides = Section('Layers'), Strides()
    with DefaultScope.overwrite_default_scope(model.get('_scope_', 'mmdet')):
        detector = build_detector(model).train()
        batch = raw_batch(size=size)
        batch = fast_batch(batch) if model.get('_scope_') == 'mmyolo' else batch
        data = detector.data_preprocessor(batch, True)
        with strides.watch('student', detector):
            detector(**data, mode='loss')
    strides.tell(section)
    return [finding.found for finding in section.findings]


def of(name: str):
    model = small(NAMES[name])
    model.data_preprocessor.update(batch_augments=None)
    return model


@pytest.mark.parametrize('size', [64, 192])
@pytest.mark.parametrize('name', NAMES)
def test_detectors_as_they_are_have_none(name, size):
    assert findings(of(name), size) == []


def test_nor_has_ssd_whose_last_strides_are_no_powers_of_two():
    assert findings(tiny_ssd()) == []
    maps = [torch.zeros(1, 1, cells, cells) for cells in (38, 19, 10, 5, 3, 1)]
    strides = Strides()
    stated = [(float(s), float(s)) for s in (8, 16, 32, 64, 100, 300)]
    strides.compare(('student', 'bbox_head'), stated, maps, (300, 300))
    assert not strides.found
    strides.compare(('student', 'bbox_head'), stated, maps[1:], (300, 300))
    assert strides.found


def test_nor_has_a_yolov5():
    pytest.importorskip('mmyolo')
    assert findings(dict(tiny_yolov5(), _scope_='mmyolo'), 128) == []


def changed(name: str, part: str, **settings):
    model = of(name)
    inner = model
    for key in part.split('.'):
        inner = inner[key]
    inner.update(settings)
    return model


@pytest.mark.parametrize(
    'name, part, settings, told',
    [
        ('fcos', 'bbox_head', dict(strides=[4, 8, 16, 32, 64]), 'bbox_head of the student'),
        ('fcos', 'bbox_head', dict(strides=[16, 32, 64, 128, 256]), 'strides of 16, 32, 64, '),
        ('fcos', 'bbox_head', dict(strides=[8, 16, 32, 64, 64]), None),  # of so coarse a map
        (
            'retinanet',
            'bbox_head.anchor_generator',
            dict(strides=[4, 8, 16, 32, 64]),
            'but its maps have 8, 16, 32, 64, 128',
        ),
        (
            'faster',
            'roi_head.bbox_roi_extractor',
            dict(featmap_strides=[8, 16, 32, 64]),
            'roi_head.bbox_roi_extractor of the student states strides of 8, 16, 32, 64',
        ),
    ],
)
def test_strides_that_contradict_the_maps(name, part, settings, told):
    found = findings(changed(name, part, **settings))
    assert len(found) == (told is not None) and (told or '') in ''.join(found)
