"""YOLOv5s teaches YOLOv5n on digits: classes, boxes and features.

mmkd train configs/yolov5_kd_s_to_n_digits.py
Expected: see docs/results.md; the baseline is configs/yolov5_n_digits.py.
"""

_base_ = ['./yolov5_n_digits.py', './_base_/methods/yolov5_balanced.py']
from mmkd.config import pair

model = pair(
    _base_,
    teacher='{{ fileDirname }}/yolov5_s_digits.py',
    teacher_ckpt='work_dirs/yolov5_s_digits/epoch_8.pth',
)
