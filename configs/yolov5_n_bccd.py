"""YOLOv5n on blood cells (BCCD in COCO form, data/bccd/) at 256x192: the baseline.

mmkd train configs/yolov5_n_bccd.py
Expected: coco/bbox_mAP 0.496 on val (seed 10, CPU, one thread; one run).
"""

_base_ = './_base_/yolov5_n_small.py'

data_root = 'data/bccd/'
classes = ('RBC', 'WBC', 'Platelets')
max_epochs = 24
img_scale = (256, 192)
anchors = [
    [(16, 15), (32, 28), (30, 36)],
    [(40, 38), (36, 46), (46, 38)],
    [(52, 50), (70, 62), (90, 82)],
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
# The base's steps at this image size, and cells may be mirrored either way.
train_pipeline, test_pipeline = (
    [{**step, 'scale': img_scale} if 'scale' in step else step for step in steps]
    for steps in (_base_.train_pipeline, _base_.test_pipeline)
)
train_pipeline.insert(
    -1,
    dict(
        type='mmdet.RandomFlip', prob=[0.25] * 3, direction=['horizontal', 'vertical', 'diagonal']
    ),
)
dataset = dict(data_root=data_root, metainfo=dict(classes=classes))
train_dataloader = dict(batch_size=8, dataset=dict(**dataset, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(**dataset, pipeline=test_pipeline))
test_dataloader = dict(
    dataset=dict(**dataset, pipeline=test_pipeline, ann_file='annotations/test.json')
)
val_evaluator = dict(ann_file=data_root + 'annotations/val.json')
test_evaluator = dict(ann_file=data_root + 'annotations/test.json')
optim_wrapper = dict(optimizer=dict(lr=0.008))
param_scheduler = [_base_.param_scheduler[0], {**_base_.param_scheduler[1], 'T_max': max_epochs}]
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs // 4)
