"""GFL on a ResNet-18 of width 32 teaches one of width 8 on BCCD: its features.

mmkd train configs/gfl_kd_r18_to_r18w8_bccd.py
Expected: see docs/results.md; the baseline is configs/gfl_r18w8_bccd.py.
"""

_base_ = ['./gfl_r18w8_bccd.py', './_base_/methods/score_imitation.py']
from mmkd.config import pair

model = pair(
    _base_,
    teacher='{{ fileDirname }}/gfl_r18w32_bccd.py',
    teacher_ckpt='work_dirs/gfl_r18w32_bccd/epoch_40.pth',
    balance=dict(shares=1.0),  # docs/logs/other_heads_tuning.txt
    lean_teacher=dict(),
)
