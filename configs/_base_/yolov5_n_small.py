# YOLOv5n for small images and two cores: no mosaic (it costs more than the network), batches that
# fill one worker, AdamW. A child gives the data set, its classes, anchors and image size.
_base_ = 'mmyolo::yolov5/yolov5_n-v61_syncbn_fast_8xb16-300e_coco.py'

max_epochs = 5
img_scale = (128, 128)
letterbox = [
    dict(type='YOLOv5KeepRatioResize', scale=img_scale),
    dict(type='LetterResize', scale=img_scale, allow_scale_up=True, pad_val=dict(img=114)),
]
train_pipeline = [
    *_base_.pre_transform,
    *letterbox,
    dict(type='YOLOv5HSVRandomAug'),
    dict(type='mmdet.PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape')),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    *letterbox,
    dict(type='LoadAnnotations', with_bbox=True, _scope_='mmdet'),
    dict(
        type='mmdet.PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'pad_param'),
    ),
]
train_dataloader = dict(
    batch_size=16,
    num_workers=1,
    pin_memory=False,
    drop_last=True,
    # Anew, without the _scope_ that mmengine adds to "mmyolo::" and then hands to the function.
    collate_fn=dict(_delete_=True, type='yolov5_collate'),
    dataset=dict(
        ann_file='annotations/train.json',
        data_prefix=dict(img='JPEGImages/'),
        filter_cfg=dict(min_size=0),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=16,
    num_workers=1,
    pin_memory=False,
    dataset=dict(
        ann_file='annotations/val.json',
        data_prefix=dict(img='JPEGImages/'),
        pipeline=test_pipeline,
        batch_shapes_cfg=None,
    ),
)
test_dataloader = val_dataloader

optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=0.003, weight_decay=0.05),
    clip_grad=dict(max_norm=10.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', eta_min=1e-5, convert_to_iter_based=True, T_max=max_epochs),
]
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
default_hooks = dict(
    param_scheduler=dict(_delete_=True, type='ParamSchedulerHook'),
    checkpoint=dict(interval=1, max_keep_ckpts=1),
    logger=dict(interval=25),
)
env_cfg = dict(cudnn_benchmark=False)
randomness = dict(seed=0)
