"""SSD on a ResNet-18 of width 8 on digits, the student alone: the control of the distilled runs.

python tools/train.py configs/ssd_r18w8_digits.py
"""

_base_ = [
    './_base_/models/ssd_r18w8_digits.py',
    './_base_/datasets/digits.py',
    './_base_/schedules/digits.py',
]
