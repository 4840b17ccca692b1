"""The rest of a head, from the maps inside its towers, predicts what the head predicts."""

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.hub import get_config
from mmengine.registry import DefaultScope
from mmrazor.models.task_modules import RecorderManager

from mmkd.heads import towers as module
from tests.heads.models import small as by_name
from tests.zoo import small


def detector(name, convs=2):
    torch.manual_seed(0)
    if name == 'rtmdet':
        config = get_config('mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py').model
    elif name == 'vfnet':
        config = by_name('vfnet/vfnet_r50_fpn_1x_coco')
        config.bbox_head.stacked_convs = convs
    else:
        config = small(name, **({} if name == 'yolov3' else dict(stacked_convs=convs)))
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(config)
    for parameter in model.bbox_head.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, 0, 0.1)
    return model.eval()


def recorded(model, **options):
    manager = RecorderManager(dict(towers=dict(type='Towers', **options)))
    manager.initialize(model)
    images = torch.randn(2, 3, 64, 64)
    with manager, torch.no_grad():
        features = model.extract_feat(images)
        model.bbox_head(features)
    return features, manager.get_recorder('towers').get_record_data()


@pytest.mark.parametrize('depth', [1, 2])
@pytest.mark.parametrize('name', ['retinanet', 'gfl', 'fcos', 'atss', 'vfnet', 'rtmdet'])
def test_from_a_depth_on(name, depth):
    model = detector(name)
    _, run = recorded(model, depth=depth)
    whole = model.bbox_head.cls_convs, model.bbox_head.reg_convs
    maps = [[level.clone().requires_grad_() for level in levels] for levels in run.maps]
    found = run.at_work.predictions(maps)
    torch.testing.assert_close(found.log_prob.detach(), run.rows.log_prob)
    torch.testing.assert_close(found.boxes.detach(), run.rows.boxes, rtol=1e-4, atol=1e-3)
    assert (model.bbox_head.cls_convs, model.bbox_head.reg_convs) == whole
    (found.log_prob.sum() + found.boxes.sum()).backward()
    assert all(level.grad.isfinite().all() for levels in maps for level in levels)
    assert all(levels[0].grad.any() for levels in maps)


@pytest.mark.parametrize('name', ['retinanet', 'yolov3'])
def test_from_the_features_on(name):
    features, run = recorded(detector(name), depth=0)
    assert not run.maps
    found = run.at_work.predictions([features])
    torch.testing.assert_close(found.log_prob, run.rows.log_prob)
    torch.testing.assert_close(found.boxes, run.rows.boxes)


def test_the_depth_of_the_paper_is_the_last_but_one():
    assert recorded(detector('retinanet', 4))[1].at_work.depth == 3
    assert recorded(detector('retinanet', 1))[1].at_work.depth == 1


def test_mmyolos_levels_are_no_tower():
    pytest.importorskip('mmyolo')
    from mmyolo.models.dense_heads import RTMDetSepBNHeadModule, YOLOv6HeadModule

    arguments = dict(num_classes=3, in_channels=[8, 8], featmap_strides=[8, 16], widen_factor=1.0)
    assert not module.towers(YOLOv6HeadModule(**arguments), 'cls_convs')
    arguments = dict(arguments, in_channels=8, feat_channels=8, stacked_convs=2)
    found = module.towers(RTMDetSepBNHeadModule(**arguments), 'cls_convs')
    assert [len(tower) for tower in found] == [2, 2]


@pytest.mark.parametrize(
    ('name', 'depth', 'told'),
    [
        ('retinanet', 3, 'got 3, and those of RetinaHead have 2'),
        ('retinanet', -1, 'got -1, and those of RetinaHead have 2'),
        ('yolov3', None, 'got None, and those of YOLOV3Head have 0.*method cross_head'),
    ],
)
def test_there_must_be_towers(name, depth, told):
    with pytest.raises(ValueError, match=told):
        recorded(detector(name), depth=depth)
