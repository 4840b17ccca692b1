"""YOLOv5m on blood cells (BCCD in COCO form, data/bccd/) at 640x480, the teacher.

mmkd train configs/yolov5_m_bccd_640.py
Expected: coco/bbox_mAP 0.584 on val (seed 0; one H200).
"""

_base_ = './yolov5_s_bccd_640.py'

model = dict(
    backbone=dict(deepen_factor=0.67, widen_factor=0.75),
    neck=dict(deepen_factor=0.67, widen_factor=0.75),
    bbox_head=dict(head_module=dict(widen_factor=0.75)),
)
max_epochs = 60  # longer than its student
param_scheduler = [_base_.param_scheduler[0], {**_base_.param_scheduler[1], 'T_max': max_epochs}]
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs // 4)
