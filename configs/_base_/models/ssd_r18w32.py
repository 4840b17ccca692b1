# SSD on a ResNet-18 of half the usual width (32 channels), from scratch: strides 8, 16 and 32.
model = dict(
    type='SingleStageDetector',
    data_preprocessor=dict(
        type='DetDataPreprocessor', mean=[128.0] * 3, std=[64.0] * 3, bgr_to_rgb=False
    ),
    backbone=dict(
        type='ResNet',
        depth=18,
        base_channels=32,
        stem_channels=32,
        out_indices=(1, 2, 3),
        norm_eval=False,
    ),
    bbox_head=dict(
        type='SSDHead',
        num_classes=10,
        in_channels=(64, 128, 256),
        anchor_generator=dict(
            type='AnchorGenerator',
            strides=[8, 16, 32],
            base_sizes=[14, 26, 40],
            scales=[1.0, 1.4],
            ratios=[1.3, 2.0],
        ),
        bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_stds=[0.1, 0.1, 0.2, 0.2]),
    ),
    train_cfg=dict(
        assigner=dict(
            type='MaxIoUAssigner',
            pos_iou_thr=0.5,
            neg_iou_thr=0.5,
            min_pos_iou=0.0,
            ignore_iof_thr=-1,
            gt_max_assign_all=False,
        ),
        sampler=dict(type='PseudoSampler'),
        smoothl1_beta=1.0,
        allowed_border=-1,
        pos_weight=-1,
        neg_pos_ratio=3,
        debug=False,
    ),
    test_cfg=dict(
        nms_pre=1000,
        nms=dict(type='nms', iou_threshold=0.45),
        min_bbox_size=0,
        score_thr=0.02,
        max_per_img=100,
    ),
)
