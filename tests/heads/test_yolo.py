"""Rows of MMYOLO's dense heads against the heads' own prediction."""

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope

from mmkd.heads import Batch, read
from tests.heads.dense_cases import (
    CLASSES,
    INPUT,
    METAS,
    SHAPES,
    SIZES,
    UNFILTERED,
    clone,
    freeze_norms,
)
from tests.heads.same import assert_rows_are_the_heads_own

mmyolo_heads = pytest.importorskip('mmyolo.models.dense_heads')
MODULE = dict(num_classes=CLASSES, in_channels=[8, 8, 8])
ANCHORS = dict(
    prior_generator=dict(
        type='mmdet.YOLOAnchorGenerator',
        base_sizes=[
            [(3, 2), (2, 5), (4, 4)],
            [(5, 4), (4, 9), (8, 8)],
            [(11, 9), (15, 19), (33, 23)],
        ],
        strides=[8, 16, 32],
    )
)
ASSIGNER = ConfigDict(
    assigner=dict(type='mmdet.SimOTAAssigner', iou_calculator=dict(type='mmdet.BboxOverlaps2D'))
)
RTMDET = dict(num_classes=CLASSES, in_channels=8, feat_channels=8, stacked_convs=1)

# The head, its module (by default of the same name), and their arguments.
CASES = {
    'YOLOv5Head': ({}, MODULE, ANCHORS),
    'YOLOv5InsHead': ({}, dict(mask_channels=2, proto_channels=4, **MODULE), ANCHORS),
    'YOLOv6Head': ({}, MODULE, {}),
    'YOLOv6Head with distributions': ({}, dict(reg_max=4, **MODULE), {}),
    'YOLOv7Head': ({}, MODULE, ANCHORS),
    'YOLOv7Head P6': (
        dict(type='mmyolo.YOLOv7p6HeadModule'),
        dict(main_out_channels=[8] * 3, aux_out_channels=[8] * 3, **MODULE),
        ANCHORS,
    ),
    'YOLOv8Head': ({}, MODULE, {}),
    'PPYOLOEHead': ({}, MODULE, {}),
    'YOLOXHead': ({}, dict(feat_channels=8, stacked_convs=1, **{**MODULE, 'in_channels': 8}), {}),
    'YOLOXPoseHead': (
        {},
        dict(num_keypoints=2, feat_channels=8, stacked_convs=1, **{**MODULE, 'in_channels': 8}),
        dict(loss_pose=dict(type='mmdet.L1Loss'), train_cfg=ASSIGNER),
    ),
    'RTMDetHead': (dict(type='mmyolo.RTMDetSepBNHeadModule'), RTMDET, {}),
    'RTMDetInsSepBNHead': ({}, dict(num_prototypes=4, **RTMDET), {}),
}


def build(name):
    torch.manual_seed(len(name))
    kind = name.split()[0]
    module, arguments, options = CASES[name]
    with DefaultScope.overwrite_default_scope('mmyolo'):
        config = dict(dict(type=f'mmyolo.{kind}Module', **arguments), **module)
        head = getattr(mmyolo_heads, kind)(head_module=config, **options)
    for parameter in head.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, 0, 0.15)
    return freeze_norms(head.eval())


def own(head, outputs):
    if type(head).__name__ == 'YOLOXPoseHead':
        head, outputs = super(type(head), head), outputs[:3]
    elif type(head).__name__ == 'YOLOv5InsHead':
        outputs = outputs[:3]
        head = super(type(head), head)
    elif type(head).__name__ == 'RTMDetInsSepBNHead':
        head._bbox_mask_post_process = lambda results, *args, **kwargs: results
    return head.predict_by_feat(
        *clone(list(outputs)),
        batch_img_metas=METAS,
        cfg=ConfigDict(UNFILTERED),
        rescale=False,
        with_nms=False,
    )


@pytest.mark.parametrize('name', CASES)
def test_rows_are_the_heads_own_and_the_same_in_training(name):
    head, batch = build(name), Batch(INPUT, METAS)
    maps = [torch.randn(2, 8, *size) for size in SIZES]
    with torch.no_grad():
        outputs = head(tuple(maps))
        found = read(head, outputs, batch)
        detections = own(head, outputs)
    for b in (0, 1):
        assert_rows_are_the_heads_own(found, b, detections[b], SHAPES[b], CLASSES)

    freeze_norms(head.train())
    leaves = [m.requires_grad_() for m in maps]
    trained = read(head, head(tuple(leaves)), batch)
    torch.testing.assert_close(trained.log_prob.detach(), found.log_prob, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(trained.boxes.detach(), found.boxes, rtol=1e-4, atol=1e-3)
    for part in (trained.logits, trained.boxes):
        grads = torch.autograd.grad(part.sum(), leaves, retain_graph=True)
        assert all(g.isfinite().all() and g.any() for g in grads)
