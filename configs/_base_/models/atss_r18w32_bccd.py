# ATSS on a ResNet-18 of half the usual width (32 channels), from scratch: strides 8, 16 and 32, one
# anchor of two strides per cell: one level for each kind of cell; GroupNorm in the shared towers.
_base_ = './gfl_r18w32_bccd.py'
model = dict(
    type='ATSS',
    bbox_head=dict(
        _delete_=True,
        type='ATSSHead',
        num_classes=10,
        in_channels=64,
        feat_channels=64,
        stacked_convs=2,
        norm_cfg=dict(type='GN', num_groups=8),
        anchor_generator=dict(
            type='AnchorGenerator',
            strides=[8, 16, 32],
            octave_base_scale=2,
            scales_per_octave=1,
            ratios=[1.0],
        ),
        bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_stds=[0.1, 0.1, 0.2, 0.2]),
        loss_cls=dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
        loss_bbox=dict(type='GIoULoss', loss_weight=2.0),
        loss_centerness=dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0),
    ),
)
