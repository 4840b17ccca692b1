"""Rows of box heads and RoI heads against their own prediction."""

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData

from mmkd.heads import Batch, read
from mmkd.recorders.head_watch import watch
from tests.heads.dense_cases import CLASSES, DELTAS, INPUT, METAS, SHAPES, freeze_norms
from tests.heads.same import assert_rows_are_the_heads_own

BATCH = Batch(INPUT, METAS)
COUNTS = (5, 3)
BOX = dict(in_channels=8, num_classes=CLASSES, roi_feat_size=3, bbox_coder=DELTAS)
SHARED = dict(type='Shared2FCBBoxHead', fc_out_channels=8, **BOX)
NO_NMS = dict(score_thr=-1.0, nms=dict(type='nms', iou_threshold=1.0), max_per_img=10**6)
SABL = dict(
    type='SABLHead',
    num_classes=CLASSES,
    cls_in_channels=8,
    reg_in_channels=8,
    roi_feat_size=3,
    cls_out_channels=8,
    reg_offset_out_channels=8,
    reg_cls_out_channels=8,
    num_cls_fcs=1,
    num_reg_fcs=0,
    bbox_coder=dict(type='BucketingBBoxCoder', num_buckets=6, scale_factor=1.7),
    loss_cls=dict(type='CrossEntropyLoss'),
)
DII = dict(
    type='DIIHead',
    num_classes=CLASSES,
    in_channels=8,
    num_heads=2,
    feedforward_channels=8,
    num_reg_fcs=1,
    dynamic_conv_cfg=dict(
        type='DynamicConv', in_channels=8, feat_channels=4, out_channels=8, input_feat_shape=3
    ),
    loss_cls=dict(type='FocalLoss', use_sigmoid=True),
    bbox_coder=dict(type='DeltaXYWHBBoxCoder', clip_border=False),
)


def make(config):
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        module = MODELS.build(ConfigDict(config))
    for parameter in module.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, 0, 0.3)
    return module.eval()


def proposals():
    torch.manual_seed(1)
    corner = torch.rand(sum(COUNTS), 2) * 24
    boxes = torch.cat([corner, corner + 4 + torch.rand(sum(COUNTS), 2) * 20], 1)
    return boxes.split(COUNTS)


def rois():
    return torch.cat(
        [torch.cat([torch.full((len(p), 1), float(i)), p], 1) for i, p in enumerate(proposals())]
    )


def listed(results, reg_class_agnostic=False):
    """Detections of each class of results (n, C * 4 or 4) and (n, C + 1 or C)."""
    n = len(results.scores)
    labels = torch.arange(CLASSES).repeat(n)
    boxes = results.bboxes.view(n, -1, 4)
    boxes = boxes.expand(n, CLASSES, 4).reshape(-1, 4)
    scores = results.scores[:, :CLASSES].reshape(-1)
    return InstanceData(bboxes=boxes, scores=scores, labels=labels)


def split(parts):
    if parts is None:
        return (None,) * len(COUNTS)
    if isinstance(parts, torch.Tensor):
        return parts.split(COUNTS)
    return tuple(zip(*(part.split(COUNTS) for part in parts), strict=True))


BOX_HEADS = {
    'BBoxHead': dict(BOX, with_avg_pool=True),
    'BBoxHead without classes of boxes': dict(BOX, with_avg_pool=True, reg_class_agnostic=True),
    'BBoxHead without boxes': dict(BOX, with_avg_pool=True, with_reg=False),
    'BBoxHead of Seesaw': dict(
        BOX,
        with_avg_pool=True,
        loss_cls=dict(type='SeesawLoss', num_classes=CLASSES),
    ),
    'ConvFCBBoxHead': dict(
        BOX, num_shared_convs=1, num_shared_fcs=1, conv_out_channels=8, fc_out_channels=8
    ),
    'Shared2FCBBoxHead': dict(BOX, fc_out_channels=8),
    'Shared4Conv1FCBBoxHead': dict(BOX, conv_out_channels=8, fc_out_channels=8),
    'SCNetBBoxHead': dict(BOX, num_shared_fcs=2, fc_out_channels=8),
    'DoubleConvFCBBoxHead': dict(
        BOX, num_convs=1, num_fcs=1, conv_out_channels=8, fc_out_channels=8
    ),
    'SABLHead': {key: value for key, value in SABL.items() if key != 'type'},
    'MultiInstanceBBoxHead': dict(
        BOX, num_classes=1, num_shared_fcs=2, fc_out_channels=8, num_instance=2
    ),
    'MultiInstanceBBoxHead refined': dict(
        BOX, num_classes=1, num_shared_fcs=2, fc_out_channels=8, num_instance=2, with_refine=True
    ),
    'DIIHead': {key: value for key, value in DII.items() if key != 'type'},
}


@pytest.mark.parametrize('name', BOX_HEADS)
def test_rows_of_a_box_head(name):
    kind = name.split()[0]
    head = make(dict(type=kind, **BOX_HEADS[name]))
    x = torch.randn(sum(COUNTS), 8, 3, 3, requires_grad=True)
    if kind == 'DIIHead':  # as many proposals of each image; one image here
        outputs = head(x, torch.randn(1, sum(COUNTS), 8))
        found = read(
            head, outputs, Batch(INPUT, METAS[1:], rois=rois() * torch.tensor([0, 1, 1, 1, 1]))
        )
        own = InstanceData(
            bboxes=head.bbox_coder.decode(rois()[:, 1:], outputs[1][0]),
            scores=outputs[0][0].sigmoid(),
        )
        assert_rows_are_the_heads_own(found, 0, listed(own), SHAPES[1], CLASSES)
        return
    outputs = head(x, x) if kind == 'DoubleConvFCBBoxHead' else head(x)
    found = read(head, outputs, Batch(INPUT, METAS, rois=rois()))
    assert found.valid.sum(1).tolist() == [n * getattr(head, 'num_instance', 1) for n in COUNTS]
    assert found.log_prob[~found.valid].max() < -50
    cls, box = outputs[-2:]
    nms = kind in ('SABLHead',)
    own = head.predict_by_feat(
        rois().split(COUNTS),
        split(cls),
        split(box),
        METAS,
        ConfigDict(NO_NMS) if nms else None,
    )
    for b, results in enumerate(own):
        if kind == 'MultiInstanceBBoxHead':
            results.scores, results.labels = results.scores[:, 1], torch.zeros(len(results))
        elif not nms:
            results = listed(results)
        assert_rows_are_the_heads_own(
            found, b, results, SHAPES[b], found.log_prob.size(2), found.valid[b]
        )
    (found.logits[found.valid].sum() + found.boxes.sum()).backward()
    assert x.grad.isfinite().all() and x.grad.flatten(1).any(1).all()
    if found.class_boxes is not None:
        surest = found.log_prob.argmax(-1)[..., None, None].expand(-1, -1, 1, 4)
        assert torch.equal(found.class_boxes.gather(2, surest)[:, :, 0], found.boxes)


def test_a_box_head_needs_proposals_and_scores():
    head = make(dict(type='BBoxHead', with_avg_pool=True, **BOX))
    outputs = head(torch.randn(8, 8, 3, 3))
    with pytest.raises(ValueError, match=r'batch\.rois is None'):
        read(head, outputs, BATCH)
    with pytest.raises(ValueError, match='with_cls=False'):
        read(head, (None, outputs[1]), Batch(INPUT, METAS, rois=rois()))


def test_images_without_proposals():
    head = make(dict(type='BBoxHead', with_avg_pool=True, **BOX))
    found = read(head, head(torch.randn(3, 8, 3, 3)), Batch(metas=METAS, rois=rois()[5:]))
    assert found.valid.tolist() == [[False] * 3, [True] * 3]
    found = read(head, head(torch.randn(0, 8, 3, 3)), Batch(metas=METAS, rois=torch.zeros(0, 5)))
    assert found.boxes.shape == (2, 0, 4) and found.log_prob.shape == (2, 0, CLASSES)


EXTRACTOR = dict(
    type='SingleRoIExtractor',
    roi_layer=dict(type='RoIAlign', output_size=3, sampling_ratio=1),
    out_channels=8,
    featmap_strides=[8],
)
TRAIN = dict(
    assigner=dict(type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.5, min_pos_iou=0.5),
    sampler=dict(type='RandomSampler', num=8, pos_fraction=0.5, add_gt_as_proposals=True),
    pos_weight=-1,
)
TWO_STAGES = dict(
    num_stages=2,
    stage_loss_weights=[1, 1],
    bbox_roi_extractor=EXTRACTOR,
    train_cfg=[TRAIN, TRAIN],
    test_cfg=NO_NMS,
)
STANDARD = dict(bbox_roi_extractor=EXTRACTOR, bbox_head=SHARED, train_cfg=TRAIN, test_cfg=NO_NMS)
AGNOSTIC = dict(SHARED, reg_class_agnostic=True)
ROI_HEADS = {
    'StandardRoIHead': STANDARD,
    'PISARoIHead': dict(
        STANDARD,
        train_cfg=dict(
            TRAIN,
            sampler=dict(type='ScoreHLRSampler', num=8, pos_fraction=0.5),
            isr=dict(k=2, bias=0),
            carl=dict(k=1, bias=0.2),
        ),
    ),
    'DynamicRoIHead': dict(
        STANDARD,
        train_cfg=dict(
            TRAIN,
            dynamic_rcnn=dict(
                iou_topk=2, beta_topk=2, update_iter_interval=100, initial_iou=0.4, initial_beta=1.0
            ),
        ),
    ),
    'DoubleHeadRoIHead': dict(
        STANDARD,
        reg_roi_scale_factor=1.3,
        bbox_head=dict(type='DoubleConvFCBBoxHead', **BOX_HEADS['DoubleConvFCBBoxHead']),
    ),
    'CascadeRoIHead': dict(TWO_STAGES, bbox_head=[AGNOSTIC, AGNOSTIC]),
    'CascadeRoIHead of classes': dict(TWO_STAGES, bbox_head=[SHARED, SHARED]),
    'CascadeRoIHead of SABL': dict(TWO_STAGES, bbox_head=[SABL, SABL]),
    'HybridTaskCascadeRoIHead': dict(
        TWO_STAGES, bbox_head=[AGNOSTIC, AGNOSTIC], semantic_fusion=()
    ),
}


ALONE = ('SparseRoIHead', 'TridentRoIHead', 'MultiInstanceRoIHead', 'SCNetRoIHead')


def scene():
    maps = (
        torch.randn(2, 8, 8, 6, generator=torch.Generator().manual_seed(2), requires_grad=False),
    )
    return maps, [InstanceData(bboxes=p.clone()) for p in proposals()]


def samples():
    from mmdet.structures import DetDataSample

    found = []
    for meta in METAS:
        sample = DetDataSample(metainfo=meta)
        sample.gt_instances = InstanceData(
            bboxes=torch.tensor([[4.0, 6.0, 22.0, 30.0]]), labels=torch.tensor([1])
        )
        sample.ignored_instances = InstanceData(bboxes=torch.zeros(0, 4))
        found.append(sample)
    return found


@pytest.mark.parametrize('name', ROI_HEADS)
def test_rows_of_a_roi_head(name):
    head = make(dict(type=name.split()[0], **ROI_HEADS[name]))
    maps, found = scene()
    with watch(head) as runs, torch.no_grad():
        own = head.predict_bbox(maps, METAS, found, ConfigDict(NO_NMS))
    assert len(runs) == 1
    rows = read(head, runs[0], BATCH)
    for b, detections in enumerate(own):
        assert_rows_are_the_heads_own(rows, b, detections, SHAPES[b], CLASSES, rows.valid[b])

    # In training the rows are the sample; the same proposals give the same rows.
    freeze_norms(head.train())
    leaf = maps[0].clone().requires_grad_()
    with watch(head) as runs:
        head.loss((leaf,), scene()[1], samples())
    assert len(runs) == 1 and 'forward' not in head.__dict__
    sampled = read(head, runs[0], BATCH)
    first = runs[0][0].rois
    with watch(head.eval()) as runs, torch.no_grad():
        again = [InstanceData(bboxes=first[first[:, 0] == i, 1:]) for i in (0, 1)]
        head.predict_bbox((leaf,), METAS, again, ConfigDict(NO_NMS))
    evaluated = read(head, runs[0], BATCH)
    torch.testing.assert_close(sampled.log_prob.detach(), evaluated.log_prob)
    torch.testing.assert_close(sampled.boxes.detach(), evaluated.boxes)
    (sampled.logits[sampled.valid].sum() + sampled.boxes.sum()).backward()
    assert leaf.grad.isfinite().all() and leaf.grad.any()


def test_rows_of_sparse_rcnn():
    config = dict(
        type='SparseRoIHead',
        num_stages=2,
        stage_loss_weights=[1, 1],
        proposal_feature_channel=8,
        bbox_roi_extractor=EXTRACTOR,
        bbox_head=[DII, DII],
        test_cfg=dict(max_per_img=4 * CLASSES),
    )
    head = make(config)
    maps, _ = scene()
    given = [
        InstanceData(bboxes=p, features=torch.randn(4, 8), imgs_whwh=torch.ones(4, 4))
        for p in torch.rand(2, 4, 4) * 40  # corners in any order, as untrained ones are
    ]
    with watch(head) as runs:
        own = head.predict_bbox(maps, METAS, given, ConfigDict(NO_NMS))
    rows = read(head, runs[0], BATCH)
    for b, detections in enumerate(own):
        assert_rows_are_the_heads_own(rows, b, detections, SHAPES[b], CLASSES)


def test_branches_of_tridentnet_join():
    """In training each image is there once for each branch."""
    head = make(dict(type='TridentRoIHead', num_branch=3, test_branch_idx=1, **STANDARD))
    boxes = rois()
    branches = torch.cat([boxes + torch.tensor([2.0 * k, 0, 0, 0, 0]) for k in range(3)])
    with watch(head) as runs:
        head._bbox_forward((torch.randn(6, 8, 8, 6),), branches)
    rows = read(head, runs[0], BATCH)
    assert rows.valid.sum(1).tolist() == [3 * n for n in COUNTS]
    alone = read(
        head.bbox_head, [o[:8] for o in runs[0][0].outputs], Batch(metas=METAS, rois=boxes)
    )
    torch.testing.assert_close(rows.boxes[0, :5], alone.boxes[0])


def test_rows_of_crowddet():
    box = dict(
        BOX, type='MultiInstanceBBoxHead', num_classes=1, num_shared_fcs=2, fc_out_channels=8
    )
    config = dict(STANDARD, type='MultiInstanceRoIHead', bbox_head=dict(box, with_refine=True))
    head = make(dict(config, train_cfg=None))
    maps, found = scene()
    with watch(head) as runs, torch.no_grad():
        own = head.predict_bbox(maps, METAS, found, ConfigDict(NO_NMS))
    rows = read(head, runs[0], BATCH)
    for b, detections in enumerate(own):
        assert_rows_are_the_heads_own(rows, b, detections, SHAPES[b], 1, rows.valid[b])


def test_rows_of_scnet():
    mask = dict(
        type='SCNetMaskHead', num_convs=1, in_channels=8, conv_out_channels=8, num_classes=3
    )
    head = make(
        dict(
            TWO_STAGES,
            type='SCNetRoIHead',
            bbox_head=[dict(AGNOSTIC, type='SCNetBBoxHead', num_shared_fcs=2)] * 2,
            mask_roi_extractor=EXTRACTOR,
            mask_head=mask,
        )
    )
    maps, found = scene()
    with watch(head) as runs, torch.no_grad():
        own = head.predict_bbox(maps, METAS, found, ConfigDict(NO_NMS))
    rows = read(head, runs[0], BATCH)
    for b, detections in enumerate(own):
        assert_rows_are_the_heads_own(rows, b, detections, SHAPES[b], CLASSES, rows.valid[b])
