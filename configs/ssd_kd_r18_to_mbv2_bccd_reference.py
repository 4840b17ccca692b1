"""The BCCD pair with a MobileNetV2 as Chen et al. (NeurIPS 2017) were implemented, to compare.

mmkd compare configs/ssd_kd_r18_to_mbv2_bccd_reference.py --arms baseline kd
Expected: see docs/results.md.
"""

_base_ = ['./ssd_mbv2_bccd.py', './_base_/methods/ssd_chen2017_reference.py']
from mmkd.config import pair

model = pair(
    _base_,
    teacher='{{ fileDirname }}/ssd_r18w32_bccd.py',
    teacher_ckpt='work_dirs/ssd_r18w32_bccd/epoch_100.pth',
)
