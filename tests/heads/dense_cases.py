"""Small dense heads, each with random weights, features, and its own prediction unfiltered."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope

CLASSES = 3
STRIDES = [8, 16, 32]
INPUT = (64, 48)
SIZES = [(8, 6), (4, 3), (2, 2)]
# The second is larger than the batch, so that nearly none of its boxes is clipped.
SHAPES = [(50, 40), (4000, 4000)]
METAS = [
    dict(
        img_shape=shape,
        ori_shape=shape,
        scale_factor=(1.0, 1.0),
        batch_input_shape=INPUT,
        pad_shape=INPUT,
        border=[0.0] * 4,
    )
    for shape in SHAPES
]
UNFILTERED = ConfigDict(
    nms_pre=10**6,
    score_thr=-1.0,
    min_bbox_size=-1,
    conf_thr=-1,
    nms=dict(type='nms', iou_threshold=1.0),
    max_per_img=10**6,
    multi_label=True,
    iou_thr=1.0,
    top_k=10**6,
)


def anchors(**kwargs: Any) -> dict:
    return dict(type='AnchorGenerator', strides=STRIDES, **kwargs)


ONE = anchors(ratios=[1.0], octave_base_scale=4, scales_per_octave=1)
THREE = anchors(ratios=[0.5, 1.0, 2.0], octave_base_scale=3, scales_per_octave=2)
DELTAS = dict(type='DeltaXYWHBBoxCoder', target_stds=[0.1, 0.1, 0.2, 0.2])
POINTS = dict(type='MlvlPointGenerator', offset=0, strides=STRIDES)
RANGES = ((-1, 32), (32, 64), (64, 1e8))
COMMON = dict(num_classes=CLASSES, in_channels=8, feat_channels=8)
GUIDED = dict(
    in_channels=8,
    feat_channels=8,
    approx_anchor_generator=anchors(
        octave_base_scale=4, scales_per_octave=1, ratios=[0.5, 1.0, 2.0]
    ),
    square_anchor_generator=anchors(ratios=[1.0], scales=[4]),
    bbox_coder=DELTAS,
    deform_groups=2,
)
SSD = dict(
    in_channels=(8, 8, 8),
    num_classes=CLASSES,
    anchor_generator=dict(
        type='SSDAnchorGenerator',
        scale_major=False,
        strides=STRIDES,
        ratios=[[2], [2, 3], [2]],
        min_sizes=[12, 28, 44],
        max_sizes=[28, 44, 60],
    ),
    bbox_coder=DELTAS,
)
RTMDET = dict(
    **COMMON,
    stacked_convs=1,
    anchor_generator=POINTS,
    bbox_coder=dict(type='DistancePointBBoxCoder'),
    loss_cls=dict(type='QualityFocalLoss', use_sigmoid=True),
    loss_bbox=dict(type='GIoULoss'),
    norm_cfg=dict(type='BN'),
)
FCOS = dict(stacked_convs=1, strides=STRIDES, regress_ranges=RANGES, norm_cfg=None, **COMMON)
SIGMOID = dict(type='CrossEntropyLoss', use_sigmoid=True)
RPN = dict(in_channels=8, feat_channels=8, anchor_generator=THREE)


@dataclass
class Case:
    """How a head is built, and what differs from what most do."""

    config: dict
    scope: str = 'mmdet'
    sizes: list = field(default_factory=lambda: SIZES)
    train: dict = field(default_factory=dict)  # test_cfg and the like of the head
    own: Callable | None = None  # (head, outputs) -> InstanceData of each image
    cfg: dict = field(default_factory=dict)
    per_row: int = CLASSES  # detections of a row in the head's own prediction


def clone(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.clone()
    return type(value)(clone(item) for item in value)


def without_nms(head: Any, outputs: Any, **cfg: Any) -> list:
    """What most heads offer."""
    return head.predict_by_feat(
        *clone(list(outputs)),
        batch_img_metas=METAS,
        cfg=ConfigDict({**UNFILTERED, **cfg}),
        rescale=False,
        with_nms=False,
    )


def nms_of_all(head: Any, outputs: Any, **cfg: Any) -> list:
    """NMS that suppresses nothing, for heads that always run it."""
    head.with_score_voting = False
    return head.predict_by_feat(
        *clone(list(outputs)),
        batch_img_metas=METAS,
        cfg=ConfigDict({**UNFILTERED, **cfg}),
        rescale=False,
    )


def centernet(head: Any, outputs: Any) -> list:
    return head.predict_by_feat(*clone(list(outputs)), batch_img_metas=METAS, rescale=False)


def masks_aside(head: Any, outputs: Any) -> list:
    """RTMDet-Ins's boxes, before its masks are made."""
    head._bbox_mask_post_process = lambda results, *args, **kwargs: results
    return without_nms(head, outputs)


CASES: dict[str, Case] = {
    'AnchorHead': Case(dict(anchor_generator=THREE, **COMMON)),
    'SSDHead': Case(SSD),
    'PISASSDHead': Case(SSD),
    'RetinaHead': Case(dict(stacked_convs=1, anchor_generator=THREE, **COMMON)),
    'PISARetinaHead': Case(dict(stacked_convs=1, anchor_generator=THREE, **COMMON)),
    'FreeAnchorRetinaHead': Case(dict(stacked_convs=1, anchor_generator=THREE, **COMMON)),
    'RetinaSepBNHead': Case(
        dict(num_ins=3, stacked_convs=1, anchor_generator=THREE, norm_cfg=dict(type='BN'), **COMMON)
    ),
    'FSAFHead': Case(
        dict(
            stacked_convs=1,
            reg_decoded_bbox=True,
            anchor_generator=ONE,
            bbox_coder=dict(type='TBLRBBoxCoder', normalizer=4.0),
            loss_bbox=dict(type='IoULoss', reduction='none'),
            **COMMON,
        )
    ),
    'YOLACTHead': Case(
        dict(
            anchor_generator=ONE,
            loss_cls=dict(type='CrossEntropyLoss', reduction='none'),
            num_head_convs=1,
            num_protos=4,
            **COMMON,
        ),
        own=nms_of_all,
    ),
    'ATSSHead': Case(
        dict(stacked_convs=1, anchor_generator=ONE, norm_cfg=None, bbox_coder=DELTAS, **COMMON)
    ),
    'PAAHead': Case(
        dict(stacked_convs=1, anchor_generator=ONE, norm_cfg=None, bbox_coder=DELTAS, **COMMON),
        own=nms_of_all,
    ),
    'LADHead': Case(
        dict(stacked_convs=1, anchor_generator=ONE, norm_cfg=None, bbox_coder=DELTAS, **COMMON),
        own=nms_of_all,
    ),
    'DDODHead': Case(
        dict(
            stacked_convs=1,
            anchor_generator=ONE,
            norm_cfg=dict(type='GN', num_groups=2),
            bbox_coder=DELTAS,
            **COMMON,
        )
    ),
    'GFLHead': Case(
        dict(stacked_convs=1, anchor_generator=ONE, norm_cfg=None, reg_max=7, **COMMON)
    ),
    'LDHead': Case(
        dict(
            stacked_convs=1,
            anchor_generator=ONE,
            norm_cfg=None,
            reg_max=7,
            loss_ld=dict(type='KnowledgeDistillationKLDivLoss'),
            **COMMON,
        )
    ),
    'TOODHead': Case(
        dict(
            stacked_convs=2,
            anchor_type='anchor_free',
            anchor_generator=ONE,
            norm_cfg=dict(type='GN', num_groups=2),
            bbox_coder=DELTAS,
            **COMMON,
        )
    ),
    'TOODHead of anchors': Case(
        dict(
            stacked_convs=2,
            anchor_type='anchor_based',
            anchor_generator=ONE,
            norm_cfg=dict(type='GN', num_groups=2),
            bbox_coder=DELTAS,
            **COMMON,
        )
    ),
    'VFNetHead': Case(
        dict(
            stacked_convs=1,
            strides=STRIDES,
            regress_ranges=RANGES,
            norm_cfg=dict(type='GN', num_groups=2),
            anchor_generator=dict(ONE, center_offset=0.0),
            **COMMON,
        )
    ),
    'FCOSHead': Case(dict(norm_on_bbox=True, centerness_on_reg=True, **FCOS)),
    'FCOSHead in pixels': Case(FCOS),
    'NASFCOSHead': Case(
        dict(
            strides=STRIDES, regress_ranges=RANGES, norm_cfg=dict(type='GN', num_groups=4), **COMMON
        )
    ),
    'AutoAssignHead': Case(dict(strides=STRIDES, stacked_convs=1, norm_cfg=None, **COMMON)),
    'CondInstBboxHead': Case(dict(norm_on_bbox=True, num_params=9, **FCOS)),
    'BoxInstBboxHead': Case(dict(norm_on_bbox=True, num_params=9, **FCOS)),
    'CenterNetUpdateHead': Case(
        dict(
            stacked_convs=1,
            strides=STRIDES,
            norm_cfg=dict(type='GN', num_groups=2),
            hm_min_radius=4,
            hm_min_overlap=0.8,
            more_pos_thresh=0.2,
            more_pos_topk=9,
            soft_weight_on_reg=False,
            **COMMON,
        )
    ),
    'FoveaHead': Case(
        dict(
            stacked_convs=1,
            strides=STRIDES,
            base_edge_list=[16, 32, 64],
            scale_ranges=((1, 32), (16, 64), (32, 128)),
            with_deform=True,
            deform_groups=2,
            norm_cfg=dict(type='GN', num_groups=2),
            **COMMON,
        )
    ),
    'RepPointsHead': Case(
        dict(
            point_feat_channels=8,
            stacked_convs=1,
            num_points=9,
            point_strides=STRIDES,
            point_base_scale=4,
            gradient_mul=0.1,
            **COMMON,
        )
    ),
    'RepPointsHead of extremes': Case(
        dict(
            point_feat_channels=8,
            stacked_convs=1,
            num_points=9,
            point_strides=STRIDES,
            transform_method='partial_minmax',
            **COMMON,
        )
    ),
    'SABLRetinaHead': Case(
        dict(
            stacked_convs=1,
            approx_anchor_generator=GUIDED['approx_anchor_generator'],
            square_anchor_generator=GUIDED['square_anchor_generator'],
            loss_cls=dict(type='FocalLoss', use_sigmoid=True),
            **COMMON,
        )
    ),
    'RTMDetHead': Case(RTMDET),
    'RTMDetSepBNHead': Case(dict(with_objectness=False, exp_on_reg=True, **RTMDET)),
    'RTMDetInsHead': Case(dict(num_prototypes=4, **RTMDET), own=masks_aside),
    'RTMDetInsSepBNHead': Case(
        dict(num_prototypes=4, with_objectness=False, **RTMDET), own=masks_aside
    ),
    'YOLOFHead': Case(
        dict(
            num_classes=CLASSES,
            in_channels=8,
            reg_decoded_bbox=True,
            num_cls_convs=1,
            num_reg_convs=1,
            anchor_generator=dict(
                type='AnchorGenerator', ratios=[1.0], scales=[1, 2, 4], strides=[16]
            ),
            bbox_coder=dict(type='DeltaXYWHBBoxCoder', add_ctr_clamp=True, ctr_clamp=32),
            loss_cls=dict(type='FocalLoss', use_sigmoid=True),
        ),
        sizes=[(4, 3)],
    ),
    'YOLOXHead': Case(dict(strides=STRIDES, stacked_convs=1, **COMMON), per_row=1),
    'YOLOV3Head': Case(
        dict(
            num_classes=CLASSES,
            in_channels=(8, 8, 8),
            out_channels=(8, 8, 8),
            anchor_generator=dict(
                type='YOLOAnchorGenerator',
                base_sizes=[
                    [(11, 9), (15, 19), (33, 23)],
                    [(5, 4), (4, 9), (8, 8)],
                    [(3, 2), (2, 5), (4, 4)],
                ],
                strides=STRIDES[::-1],
            ),
            featmap_strides=STRIDES[::-1],
        ),
        sizes=SIZES[::-1],
    ),
    'CenterNetHead': Case(
        dict(in_channels=8, feat_channels=8, num_classes=CLASSES),
        sizes=[(8, 6)],
        train=dict(test_cfg=ConfigDict(topk=8 * 6 * CLASSES, local_maximum_kernel=1)),
        own=centernet,
    ),
    'RPNHead': Case(RPN, own=nms_of_all, per_row=1),
    'RPNHead of softmax': Case(
        dict(loss_cls=dict(type='CrossEntropyLoss'), **RPN), own=nms_of_all, per_row=1
    ),
    'GuidedAnchorHead': Case(
        dict(num_classes=CLASSES, loc_filter_thr=0.5, **GUIDED), own=nms_of_all
    ),
    'GARetinaHead': Case(
        dict(
            num_classes=CLASSES,
            stacked_convs=1,
            loc_filter_thr=0.5,
            loss_cls=dict(type='FocalLoss', use_sigmoid=True),
            **GUIDED,
        ),
        own=nms_of_all,
    ),
    'GARPNHead': Case(
        dict(loc_filter_thr=0.5, loss_cls=SIGMOID, **GUIDED),
        own=nms_of_all,
        per_row=1,
        cfg=dict(nms_post=10**6),
    ),
}


def build(case: Case, name: str) -> Any:
    """The head with weights that are neither 0 nor all alike."""
    torch.manual_seed(len(name))
    kind = name.split()[0]
    with DefaultScope.overwrite_default_scope(case.scope):
        head: Any = MODELS.build(dict(type=kind, **case.config, **case.train))
    for parameter in head.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, 0, 0.15)
    return freeze_norms(head.eval())


def freeze_norms(head: Any) -> Any:
    """BatchNorm is the same in training and in eval, so that a comparison sees the reader alone."""
    for module in head.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.eval()
    return head


def features(case: Case, batch: int = 2) -> tuple:
    return tuple(torch.randn(batch, 8, *size) for size in case.sizes)
