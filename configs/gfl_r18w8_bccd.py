"""GFL on a ResNet-18 of width 8 on BCCD at 192x144, the baseline of the distilled runs.

mmkd train configs/gfl_r18w8_bccd.py
Expected: see docs/results.md.
"""

_base_ = [
    './_base_/models/gfl_r18w32_bccd.py',
    './_base_/datasets/bccd_192.py',
    './_base_/schedules/photos_short.py',
]
model = dict(
    backbone=dict(base_channels=8, stem_channels=8),
    neck=dict(in_channels=[16, 32, 64], out_channels=32),
    bbox_head=dict(num_classes=3, in_channels=32, feat_channels=32, stacked_convs=1),
)
