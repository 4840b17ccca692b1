"""RetinaNet on a ResNet-18 of width 32 teaches an FCOS of width 8 on BCCD: classes and boxes.

mmkd train configs/fcos_kd_retinanet_r18_to_r18w8_bccd.py
Expected: no gain yet (docs/experiments.md); the baseline is configs/fcos_r18w8_bccd.py.
"""

_base_ = ['./fcos_r18w8_bccd.py', './_base_/methods/prediction_rows.py']
from mmkd.config import pair

# An image has 14 cells, each of which many rows show: docs/logs/other_heads_tuning.txt.
_base_.distiller.distill_losses.loss_rows.update(top_k=100)
model = pair(
    _base_,
    teacher='{{ fileDirname }}/retinanet_r18w32_bccd.py',
    teacher_ckpt='work_dirs/retinanet_r18w32_bccd/epoch_40.pth',
    balance=dict(shares=1.0),
    lean_teacher=dict(),
)
