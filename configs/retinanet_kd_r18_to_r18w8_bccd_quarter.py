"""A teacher of a quarter of BCCD's labels teaches a RetinaNet of width 8 on these images alone.

mmkd train configs/retinanet_kd_r18_to_r18w8_bccd_quarter.py
Expected: see docs/any_teacher.md; the baseline is configs/retinanet_r18w8_bccd_quarter.py.
"""

_base_ = ['./retinanet_r18w8_bccd_quarter.py', './_base_/methods/prediction_rows.py']
from mmkd.config import pair

model = pair(
    _base_,
    teacher='{{ fileDirname }}/retinanet_r18w32_bccd_quarter.py',
    teacher_ckpt='work_dirs/retinanet_r18w32_bccd_quarter/epoch_130.pth',
    balance=dict(shares=3.0),  # as with all labels: docs/logs/other_heads_tuning.txt
    lean_teacher=dict(),
)
