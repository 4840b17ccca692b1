"""RetinaNet on a ResNet-18 of width 32 teaches an FCOS of width 8 on BCCD: classes and boxes.

mmkd train configs/fcos_kd_retinanet_r18_to_r18w8_bccd.py
Expected: no gain yet (docs/experiments.md); the baseline is configs/fcos_r18w8_bccd.py.
"""

_base_ = ['./fcos_r18w8_bccd.py', './_base_/methods/prediction_rows.py']
from mmkd.config import pair

model = pair(
    _base_,
    teacher='{{ fileDirname }}/retinanet_r18w32_bccd.py',
    teacher_ckpt='work_dirs/retinanet_r18w32_bccd/epoch_40.pth',
    balance=dict(shares=1.0),
    lean_teacher=dict(),
)
