"""SSD on a ResNet-18 of width 32 teaches one of width 8 on playing cards.

mmkd train configs/ssd_kd_r18_to_r18w8_cards.py
Expected: see docs/results.md; the baseline is configs/ssd_r18w8_cards.py.
"""

_base_ = ['./ssd_r18w8_cards.py', './_base_/methods/ssd_balanced.py']
from mmkd.config import pair

model = pair(
    _base_,
    teacher='{{ fileDirname }}/ssd_r18w32_cards.py',
    teacher_ckpt='work_dirs/ssd_r18w32_cards/epoch_60.pth',
    # Chosen for this set: docs/logs/cards_ssd_tuning.txt.
    balance=dict(shares=dict(loss_soft=1.0, loss_box=1.0, loss_imitation=0.1)),
)
