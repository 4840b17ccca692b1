"""A teacher of a quarter of the cards' labels teaches an SSD of width 8 on these images alone.

mmkd train configs/ssd_kd_r18_to_r18w8_cards_quarter.py
Expected: see docs/any_teacher.md; the baseline is configs/ssd_r18w8_cards_quarter.py.
"""

_base_ = ['./ssd_r18w8_cards_quarter.py', './_base_/methods/ssd_balanced.py']
from mmkd.config import pair

model = pair(
    _base_,
    teacher='{{ fileDirname }}/ssd_r18w32_cards_quarter.py',
    teacher_ckpt='work_dirs/ssd_r18w32_cards_quarter/epoch_225.pth',
    balance=dict(shares=dict(loss_soft=1.0, loss_box=1.0, loss_imitation=0.1)),
    lean_teacher=dict(),
)
