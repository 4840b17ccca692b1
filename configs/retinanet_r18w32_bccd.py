"""RetinaNet on a ResNet-18 of width 32 on BCCD at 192x144, the teacher.

mmkd train configs/retinanet_r18w32_bccd.py
Expected: coco/bbox_mAP 0.508 on val (seed 10, CPU, one thread; one run).
"""

_base_ = [
    './_base_/models/retinanet_r18w32_bccd.py',
    './_base_/datasets/bccd_192.py',
    './_base_/schedules/photos_teacher.py',
]
model = dict(bbox_head=dict(num_classes=3, anchor_generator=dict(base_sizes=[11, 27, 50])))
