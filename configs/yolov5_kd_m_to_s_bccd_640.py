"""YOLOv5m teaches YOLOv5s on BCCD at 640x480: classes, boxes and features.

mmkd train configs/yolov5_kd_m_to_s_bccd_640.py
Expected: not run to its end (docs/results.md); the baseline is configs/yolov5_s_bccd_640.py.
"""

_base_ = ['./yolov5_s_bccd_640.py', './_base_/methods/yolov5_balanced.py']
from mmkd.config import pair

model = pair(
    _base_,
    teacher='{{ fileDirname }}/yolov5_m_bccd_640.py',
    teacher_ckpt='work_dirs/yolov5_m_bccd_640/epoch_60.pth',
    balance=dict(shares=1.0),
)
