"""RetinaNet on a ResNet-18 of width 32 teaches one of width 8 on BCCD: classes and boxes.

mmkd train configs/retinanet_kd_r18_to_r18w8_bccd.py
Expected: see docs/results.md; the baseline is configs/retinanet_r18w8_bccd.py.
"""

_base_ = ['./retinanet_r18w8_bccd.py', './_base_/methods/prediction_rows.py']
from mmkd.config import pair

model = pair(
    _base_,
    teacher='{{ fileDirname }}/retinanet_r18w32_bccd.py',
    teacher_ckpt='work_dirs/retinanet_r18w32_bccd/epoch_40.pth',
    balance=dict(shares=3.0),  # docs/logs/other_heads_tuning.txt
    lean_teacher=dict(),
)
