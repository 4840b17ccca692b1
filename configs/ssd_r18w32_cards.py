"""SSD on a ResNet-18 of width 32 on playing cards, the teacher.

mmkd train configs/ssd_r18w32_cards.py
Expected: see docs/results.md.
"""

_base_ = [
    './_base_/models/ssd_r18w32.py',
    './_base_/datasets/cards.py',
    './_base_/schedules/photos.py',
]
priors = dict(base_sizes=[26, 44, 74], scales=[1.0, 1.4], ratios=[0.9, 1.5, 2.5])
model = dict(bbox_head=dict(num_classes=6, anchor_generator=priors))
max_epochs = 60
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
param_scheduler = [
    _base_.param_scheduler[0],
    {**_base_.param_scheduler[1], 'T_max': max_epochs, 'end': max_epochs},
]
