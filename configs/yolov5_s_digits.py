"""YOLOv5s on digits of 128 px: the teacher of the digits pair.

mmkd data digits && mmkd train configs/yolov5_s_digits.py
Expected: see docs/results.md.
"""

_base_ = './yolov5_n_digits.py'

max_epochs = 8  # it is trained once
model = dict(
    backbone=dict(widen_factor=0.5),
    neck=dict(widen_factor=0.5),
    bbox_head=dict(head_module=dict(widen_factor=0.5)),
)
param_scheduler = [_base_.param_scheduler[0], {**_base_.param_scheduler[1], 'T_max': max_epochs}]
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
