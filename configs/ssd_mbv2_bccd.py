"""SSD on a MobileNetV2 of half width on BCCD, the baseline of the distilled runs.

mmkd train configs/ssd_mbv2_bccd.py
Expected: see docs/results.md.
"""

_base_ = './ssd_r18w8_bccd.py'
model = dict(
    backbone=dict(_delete_=True, type='MobileNetV2', widen_factor=0.5, out_indices=(2, 4, 6)),
    bbox_head=dict(in_channels=(16, 48, 160)),
)
