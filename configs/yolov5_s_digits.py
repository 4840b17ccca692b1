"""YOLOv5s on digits of 128 px: the teacher of the digits pair.

python tools/make_digits.py && python tools/train.py configs/yolov5_s_digits.py
Expected: not run.
"""

_base_ = './yolov5_n_digits.py'

model = dict(
    backbone=dict(widen_factor=0.5),
    neck=dict(widen_factor=0.5),
    bbox_head=dict(head_module=dict(widen_factor=0.5)),
)
