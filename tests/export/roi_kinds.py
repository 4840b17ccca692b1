"""Two-stage detectors of each kind that can be exported, made small."""

from collections.abc import Callable

import torch
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from torch import nn

from mmkd.algorithms.build_detector import build_detector
from tests.zoo import small

WIDE = 16
EXTRACTOR = dict(
    type='SingleRoIExtractor',
    roi_layer=dict(type='RoIAlign', output_size=14, sampling_ratio=0),
    out_channels=WIDE,
    featmap_strides=[4, 8, 16, 32],
)


def faster(name: str = 'faster_rcnn') -> ConfigDict:
    """A Faster R-CNN with few proposals."""
    model = small(name)
    model.train_cfg = None
    model.test_cfg.rpn.update(nms_pre=200, max_per_img=100)
    return model


def cascade() -> ConfigDict:
    """A Cascade R-CNN of two stages, whose boxes are not by class; levels suppress each other."""
    model = faster()
    model.test_cfg.rpn.nms.class_agnostic = True
    head = {**model.roi_head.bbox_head, 'reg_class_agnostic': True}
    return _in_stages(model, 'CascadeRoIHead', head)


def _in_stages(model: ConfigDict, kind: str, head: dict) -> ConfigDict:
    model.roi_head.update(
        type=kind, num_stages=2, stage_loss_weights=[1, 0.5], bbox_head=[head, head]
    )
    return model


def double() -> ConfigDict:
    """A Double-Head R-CNN, which cuts out larger boxes for one of its branches."""
    model = faster()
    head = dict(
        type='DoubleConvFCBBoxHead',
        num_convs=1,
        num_fcs=1,
        in_channels=WIDE,
        conv_out_channels=WIDE,
        fc_out_channels=WIDE,
        num_classes=3,
    )
    model.roi_head.update(type='DoubleHeadRoIHead', reg_roi_scale_factor=1.3)
    kept = ('bbox_coder', 'reg_class_agnostic')
    model.roi_head.bbox_head = {k: model.roi_head.bbox_head[k] for k in kept} | head
    return model


def mask() -> ConfigDict:
    """A Mask R-CNN, of which the file has the boxes."""
    return faster('mask_rcnn')


def htc() -> ConfigDict:
    """An HTC with a semantic branch, which is cut out in other bins than the boxes."""
    return _with_semantics(faster(), 'HybridTaskCascadeRoIHead')


def _with_semantics(model: ConfigDict, kind: str, **box: object) -> ConfigDict:
    head = {**model.roi_head.bbox_head, 'reg_class_agnostic': True, **box}
    model.roi_head.update(
        semantic_roi_extractor=dict(EXTRACTOR, featmap_strides=[8]),
        semantic_head=dict(
            type='FusedSemanticHead',
            num_ins=5,
            fusion_level=1,
            num_convs=1,
            in_channels=WIDE,
            conv_out_channels=WIDE,
            num_classes=3,
            loss_seg=dict(type='CrossEntropyLoss'),
        ),
    )
    return _in_stages(model, kind, head)


def scnet() -> ConfigDict:
    """An SCNet, which sees the whole image in each box besides."""
    model = mask()  # which it asks for
    _with_semantics(model, 'SCNetRoIHead', type='SCNetBBoxHead', num_shared_fcs=2)
    model.roi_head.feat_relay_head = dict(
        type='FeatureRelayHead', in_channels=8, out_conv_channels=WIDE, roi_feat_size=7
    )
    model.roi_head.glbctx_head = dict(
        type='GlobalContextHead',
        num_convs=1,
        in_channels=WIDE,
        conv_out_channels=WIDE,
        num_classes=3,
        loss_weight=1.0,
        conv_to_res=False,
    )
    return model


def grid() -> ConfigDict:
    """A Grid R-CNN, whose boxes move after they were suppressed."""
    model = faster()
    model.roi_head.bbox_head.with_reg = False
    norm = dict(type='GN', num_groups=3)
    model.roi_head.update(
        type='GridRoIHead',
        grid_roi_extractor=EXTRACTOR,
        grid_head=dict(
            type='GridHead',
            grid_points=9,
            num_convs=1,
            in_channels=WIDE,
            point_feat_channels=3,
            conv_kernel_size=1,
            norm_cfg=norm,
        ),
    )
    model.test_cfg.rcnn.update(score_thr=0.03, nms=dict(type='nms', iou_threshold=0.3))
    return model


def crowd(refine: bool = True) -> ConfigDict:
    """A CrowdDet, which finds two objects in a proposal."""
    model = faster()
    model.roi_head.type = 'MultiInstanceRoIHead'
    model.roi_head.bbox_head = dict(
        type='MultiInstanceBBoxHead',
        with_refine=refine,
        num_shared_fcs=2,
        in_channels=WIDE,
        fc_out_channels=8,
        num_classes=1,
        bbox_coder=model.roi_head.bbox_head.bbox_coder,
    )
    return model


def sparse() -> ConfigDict:
    """A Sparse R-CNN, which has learned its proposals."""
    model = faster()
    head = dict(
        type='DIIHead',
        num_classes=3,
        in_channels=WIDE,
        num_heads=2,
        feedforward_channels=8,
        num_reg_fcs=1,
        dynamic_conv_cfg=dict(
            type='DynamicConv', in_channels=WIDE, feat_channels=4, out_channels=WIDE
        ),
        loss_cls=dict(type='FocalLoss', use_sigmoid=True),
        bbox_coder=dict(type='DeltaXYWHBBoxCoder', clip_border=False),
    )
    model.type = 'SparseRCNN'
    model.rpn_head = dict(type='EmbeddingRPNHead', num_proposals=40, proposal_feature_channel=WIDE)
    model.roi_head = dict(
        type='SparseRoIHead',
        num_stages=2,
        stage_loss_weights=[1, 1],
        proposal_feature_channel=WIDE,
        bbox_roi_extractor=model.roi_head.bbox_roi_extractor,
        bbox_head=[head, head],
    )
    model.test_cfg = dict(rpn=None, rcnn=dict(max_per_img=40))
    return model


def sabl() -> ConfigDict:
    """A cascade of SABL's heads, which decide on each side in buckets."""
    model = faster()
    head = dict(
        type='SABLHead',
        num_classes=3,
        cls_in_channels=WIDE,
        reg_in_channels=WIDE,
        cls_out_channels=8,
        reg_offset_out_channels=WIDE,
        reg_cls_out_channels=WIDE,
    )
    return _in_stages(model, 'CascadeRoIHead', head)


def groie() -> ConfigDict:
    """A Faster R-CNN that cuts each box out of all levels."""
    model = faster()
    conv = dict(type='ConvModule', in_channels=WIDE, out_channels=WIDE, kernel_size=3, padding=1)
    layer = model.roi_head.bbox_roi_extractor
    layer.update(type='GenericRoIExtractor', aggregation='sum', pre_cfg=conv, post_cfg=conv)
    return model


def trident() -> ConfigDict:
    """The head of a TridentNet that predicts with one branch."""
    model = faster()
    model.roi_head.update(type='TridentRoIHead', num_branch=3, test_branch_idx=1)
    return model


def branches() -> ConfigDict:
    """A TridentNet that predicts with all branches, each of which suppresses first."""
    model, wide = faster(), 128
    model.type = 'TridentFasterRCNN'
    model.pop('neck')
    model.backbone = dict(
        type='TridentResNet',
        depth=50,
        base_channels=8,
        num_stages=3,
        strides=(1, 2, 2),
        dilations=(1, 1, 1),
        out_indices=(2,),
        trident_dilations=(1, 2, 3),
        num_branch=3,
        test_branch_idx=-1,
    )
    model.rpn_head.update(in_channels=wide, feat_channels=8)
    model.rpn_head.anchor_generator.update(strides=[16], scales=[2, 4])
    model.roi_head.update(type='TridentRoIHead', num_branch=3, test_branch_idx=-1)
    model.roi_head.bbox_roi_extractor.update(featmap_strides=[16], out_channels=wide)
    model.roi_head.bbox_head.in_channels = wide
    model.test_cfg.rcnn.update(score_thr=0.05, max_per_img=30)
    return model


KINDS: dict[str, Callable[[], ConfigDict]] = {
    kind.__name__: kind
    for kind in (
        *(faster, cascade, double, mask, htc, scnet, grid, crowd, sparse, sabl, groie, trident),
        branches,
    )
}


def spread_out(model: nn.Module) -> None:
    """Random weights by which scores differ, and boxes stay near their priors."""
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1 and 'init_proposal' not in name:
            factor = 0.1 if 'reg' in name else 3 if 'fc_cls' in name else 1
            nn.init.normal_(parameter, 0, factor / parameter[0].numel() ** 0.5)


def built(kind: str, seed: int = 0) -> nn.Module:
    """A detector of a kind, in evaluation mode."""
    torch.manual_seed(seed)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = build_detector(KINDS[kind]()).eval()
    spread_out(model)
    if kind == 'sparse':  # boxes of their own, not all the whole image
        nn.init.uniform_(model.rpn_head.init_proposal_bboxes.weight, 0.2, 0.6)
    return model
