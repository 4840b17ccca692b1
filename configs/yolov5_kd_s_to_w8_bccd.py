"""YOLOv5s teaches a YOLOv5 of half YOLOv5n's width on BCCD: classes, boxes and features.

mmkd train configs/yolov5_kd_s_to_w8_bccd.py
Expected: see docs/results.md; the baseline is configs/yolov5_w8_bccd.py.
"""

_base_ = ['./yolov5_w8_bccd.py', './_base_/methods/yolov5_balanced.py']
from mmkd.config import pair

model = pair(
    _base_,
    teacher='{{ fileDirname }}/yolov5_s_bccd.py',
    teacher_ckpt='work_dirs/yolov5_s_bccd/epoch_36.pth',
    balance=dict(shares=1.0),  # docs/logs/bccd_yolov5_tuning.txt
)
