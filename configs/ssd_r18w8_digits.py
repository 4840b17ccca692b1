"""SSD on a ResNet-18 of width 8 on digits, the baseline of the distilled runs.

mmkd data digits && mmkd train configs/ssd_r18w8_digits.py
Expected: see docs/results.md.
"""

_base_ = './ssd_r18w32_digits.py'
model = dict(
    backbone=dict(base_channels=8, stem_channels=8), bbox_head=dict(in_channels=(16, 32, 64))
)
