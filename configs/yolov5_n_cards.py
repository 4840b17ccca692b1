"""YOLOv5n on photographs of playing cards at 160x192: the teacher of yolov5_kd_n_to_w8_cards.py.

mmkd train configs/yolov5_n_cards.py
Expected: coco/bbox_mAP 0.573 on val (seed 10, CPU, one thread; one run).
"""

_base_ = './_base_/yolov5_n_small.py'

data_root = 'data/cards/'  # docs/experiments.md says where from
classes = ('nine', 'ten', 'jack', 'queen', 'king', 'ace')
max_epochs = 100
img_scale = (160, 192)
anchors = [
    [(25, 55), (47, 31), (37, 44)],
    [(50, 57), (38, 81), (65, 48)],
    [(64, 71), (74, 86), (93, 107)],
]
model = dict(
    bbox_head=dict(
        head_module=dict(num_classes=len(classes)),
        prior_generator=dict(base_sizes=anchors),
        # YOLOv5's rules for few classes and small images; see docs/experiments.md.
        loss_cls=dict(loss_weight=0.5 * len(classes) / 80),
        loss_obj=dict(loss_weight=(img_scale[0] / 640) ** 2),
    )
)
# The augmentation of _base_/datasets/cards.py.
resize = dict(type='mmdet.Resize', scale=img_scale, keep_ratio=False)
train_pipeline = [
    *_base_.pre_transform,
    resize,
    dict(
        type='mmdet.RandomAffine',
        max_rotate_degree=0.0,
        max_shear_degree=0.0,
        max_translate_ratio=0.2,
        scaling_ratio_range=(0.6, 1.5),
        border_val=(114, 114, 114),
    ),
    dict(type='mmdet.RandomFlip', prob=0.5, direction='diagonal'),
    *_base_.train_pipeline[-2:],
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    resize,
    dict(type='LoadAnnotations', with_bbox=True, _scope_='mmdet'),
    dict(
        type='mmdet.PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]
dataset = dict(data_root=data_root, metainfo=dict(classes=classes))
train_dataloader = dict(batch_size=8, dataset=dict(**dataset, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(**dataset, pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/val.json')
test_evaluator = val_evaluator
optim_wrapper = dict(optimizer=dict(lr=0.008))
param_scheduler = [_base_.param_scheduler[0], {**_base_.param_scheduler[1], 'T_max': max_epochs}]
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs // 5)
