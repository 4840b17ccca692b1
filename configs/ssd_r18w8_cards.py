"""SSD on a ResNet-18 of width 8 on playing cards, the baseline of the distilled runs.

mmkd train configs/ssd_r18w8_cards.py
Expected: see docs/results.md.
"""

_base_ = [
    './_base_/models/ssd_r18w32.py',
    './_base_/datasets/cards.py',
    './_base_/schedules/photos.py',
]
priors = dict(base_sizes=[26, 44, 74], scales=[1.0, 1.4], ratios=[0.9, 1.5, 2.5])
model = dict(
    backbone=dict(base_channels=8, stem_channels=8),
    bbox_head=dict(in_channels=(16, 32, 64), num_classes=6, anchor_generator=priors),
)
# With this much augmentation a small net needs twice the usual epochs (docs/experiments.md).
max_epochs = 80
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
param_scheduler = [
    _base_.param_scheduler[0],
    {**_base_.param_scheduler[1], 'T_max': max_epochs, 'end': max_epochs},
]
