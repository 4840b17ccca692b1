"""SSD on a ResNet-18 of width 32 teaches one of width 8 on BCCD.

mmkd train configs/ssd_kd_r18_to_r18w8_bccd.py
Expected: see docs/results.md; the baseline is configs/ssd_r18w8_bccd.py.
"""

_base_ = ['./ssd_r18w8_bccd.py', './_base_/methods/ssd_scaled.py']
from mmkd.config import pair

model = pair(
    _base_,
    teacher='{{ fileDirname }}/ssd_r18w32_bccd.py',
    teacher_ckpt='work_dirs/ssd_r18w32_bccd/epoch_100.pth',
    # Chosen for this set: docs/logs/bccd_ssd_tuning.txt.
    balance=dict(shares=dict(loss_soft=3.0, loss_box=3.0, loss_imitation=0.5)),
)
