"""A teacher of a quarter of BCCD's labels teaches an SSD of width 8 on these images alone.

mmkd train configs/ssd_kd_r18_to_r18w8_bccd_quarter.py
Expected: see docs/any_teacher.md; the baseline is configs/ssd_r18w8_bccd_quarter.py.
"""

_base_ = ['./ssd_r18w8_bccd_quarter.py', './_base_/methods/ssd_scaled.py']
from mmkd.config import pair

model = pair(
    _base_,
    teacher='{{ fileDirname }}/ssd_r18w32_bccd_quarter.py',
    teacher_ckpt='work_dirs/ssd_r18w32_bccd_quarter/epoch_325.pth',
    # As with all labels: docs/logs/bccd_ssd_tuning.txt.
    balance=dict(shares=dict(loss_soft=3.0, loss_box=3.0, loss_imitation=0.5)),
)
