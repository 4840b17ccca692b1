"""SSD on a ResNet-18 of width 32 on BCCD, the teacher.

python tools/train.py configs/ssd_r18w32_bccd.py
Expected: see docs/results.md.
"""

_base_ = [
    './_base_/models/ssd_r18w32.py',
    './_base_/datasets/bccd.py',
    './_base_/schedules/photos.py',
]
priors = dict(base_sizes=[18, 36, 68], scales=[1.0, 1.4], ratios=[0.8, 1.25])
model = dict(bbox_head=dict(num_classes=3, anchor_generator=priors))
