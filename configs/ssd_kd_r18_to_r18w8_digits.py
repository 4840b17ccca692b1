"""SSD on a ResNet-18 of width 32 teaches one of width 8 on digits.

mmkd train configs/ssd_kd_r18_to_r18w8_digits.py  (mmkd demo does all of it)
Expected: see docs/results.md.
"""

_base_ = ['./ssd_r18w8_digits.py', './_base_/methods/ssd_balanced.py']
from mmkd.config import pair

model = pair(
    _base_,
    teacher='{{ fileDirname }}/ssd_r18w32_digits.py',
    teacher_ckpt='work_dirs/ssd_r18w32_digits/epoch_5.pth',
)
