"""SSD on a ResNet-18 of width 32 on digits, the teacher.

mmkd data digits && mmkd train configs/ssd_r18w32_digits.py
Expected: see docs/results.md.
"""

_base_ = [
    './_base_/models/ssd_r18w32.py',
    './_base_/datasets/digits.py',
    './_base_/schedules/digits.py',
]
