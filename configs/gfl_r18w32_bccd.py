"""GFL on a ResNet-18 of width 32 on BCCD at 192x144, the teacher.

mmkd train configs/gfl_r18w32_bccd.py
Expected: see docs/results.md.
"""

_base_ = [
    './_base_/models/gfl_r18w32_bccd.py',
    './_base_/datasets/bccd_192.py',
    './_base_/schedules/photos_teacher.py',
]
model = dict(bbox_head=dict(num_classes=3))
