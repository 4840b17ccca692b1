"""YOLOv5s teaches YOLOv5n on BCCD: classes, boxes and features.

mmkd train configs/yolov5_kd_s_to_n_bccd.py
Expected: see docs/results.md; the baseline is configs/yolov5_n_bccd.py.
"""

_base_ = ['./yolov5_n_bccd.py', './_base_/methods/yolov5_balanced.py']
from mmkd.config import pair

model = pair(
    _base_,
    teacher='{{ fileDirname }}/yolov5_s_bccd.py',
    teacher_ckpt='work_dirs/yolov5_s_bccd/epoch_36.pth',
)
