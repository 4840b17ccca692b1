"""SSD on a ResNet-18 of width 32 on digits, the teacher.

python tools/train.py configs/ssd_r18w32_digits.py
"""

_base_ = ['./ssd_r18w8_digits.py']
model = dict(
    backbone=dict(base_channels=32, stem_channels=32), bbox_head=dict(in_channels=(64, 128, 256))
)
