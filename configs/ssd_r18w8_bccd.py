"""SSD on a ResNet-18 of width 8 on BCCD, the baseline of the distilled runs.

mmkd train configs/ssd_r18w8_bccd.py
Expected: see docs/results.md.
"""

_base_ = [
    './_base_/models/ssd_r18w32.py',
    './_base_/datasets/bccd.py',
    './_base_/schedules/photos.py',
]
priors = dict(base_sizes=[18, 36, 68], scales=[1.0, 1.4], ratios=[0.8, 1.25])
model = dict(
    backbone=dict(base_channels=8, stem_channels=8),
    bbox_head=dict(in_channels=(16, 32, 64), num_classes=3, anchor_generator=priors),
)
optim_wrapper = dict(optimizer=dict(lr=0.02))
