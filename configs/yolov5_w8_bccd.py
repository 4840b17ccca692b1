"""YOLOv5 of half YOLOv5n's width (8 channels in its stem) on BCCD at 256x192: the baseline.

mmkd train configs/yolov5_w8_bccd.py
Expected: see docs/results.md.
"""

_base_ = './yolov5_n_bccd.py'

model = dict(
    backbone=dict(widen_factor=0.125),
    neck=dict(widen_factor=0.125),
    bbox_head=dict(head_module=dict(widen_factor=0.125)),
)
