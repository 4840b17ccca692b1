"""YOLOv5 of half YOLOv5n's width (8 channels in its stem) on playing cards: the baseline.

mmkd train configs/yolov5_w8_cards.py
Expected: see docs/results.md.
"""

_base_ = './yolov5_n_cards.py'

max_epochs = 40
model = dict(
    backbone=dict(widen_factor=0.125),
    neck=dict(widen_factor=0.125),
    bbox_head=dict(head_module=dict(widen_factor=0.125)),
)
param_scheduler = [_base_.param_scheduler[0], {**_base_.param_scheduler[1], 'T_max': max_epochs}]
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs // 4)
