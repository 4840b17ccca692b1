"""The digits SSD pair as Chen et al. (NeurIPS 2017) were implemented, to compare with our recipe.

mmkd compare configs/ssd_kd_r18_to_r18w8_digits_reference.py --arms baseline kd
Expected: see docs/results.md.
"""

_base_ = ['./ssd_r18w8_digits.py', './_base_/methods/ssd_chen2017_reference.py']
from mmkd.config import pair

model = pair(
    _base_,
    teacher='{{ fileDirname }}/ssd_r18w32_digits.py',
    teacher_ckpt='work_dirs/ssd_r18w32_digits/epoch_5.pth',
)
