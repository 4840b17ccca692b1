"""SSD on a ResNet-18 of width 32 on BCCD, the teacher.

mmkd train configs/ssd_r18w32_bccd.py
Expected: coco/bbox_mAP 0.583 on val (seed 10, CPU, one thread; one run).
"""

_base_ = './ssd_r18w8_bccd.py'
model = dict(
    backbone=dict(base_channels=32, stem_channels=32), bbox_head=dict(in_channels=(64, 128, 256))
)
max_epochs = 100  # it is trained once
optim_wrapper = dict(optimizer=dict(lr=0.012))
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
param_scheduler = [
    _base_.param_scheduler[0],
    {**_base_.param_scheduler[1], 'T_max': max_epochs, 'end': max_epochs},
]
