"""YOLOv5s on blood cells (BCCD in COCO form, data/bccd/) at 256x192: the bccd pair's teacher.

mmkd train configs/yolov5_s_bccd.py
Expected: coco/bbox_mAP 0.527 on val (seed 10, CPU, one thread; one run).
"""

_base_ = './yolov5_n_bccd.py'

model = dict(
    backbone=dict(widen_factor=0.5),
    neck=dict(widen_factor=0.5),
    bbox_head=dict(head_module=dict(widen_factor=0.5)),
)
max_epochs = 36  # longer than its student
optim_wrapper = dict(optimizer=dict(lr=0.006))
param_scheduler = [_base_.param_scheduler[0], {**_base_.param_scheduler[1], 'T_max': max_epochs}]
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs // 4)
