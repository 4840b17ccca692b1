"""SSD300-VGG16 teaches SSD300-MobileNetV2 on COCO (COCO mAP): classes, boxes and features.

tools/dist_train.sh configs/ssd_kd_vgg_to_mbv2_coco.py 8
Expected: not run at this size; the baseline is configs/ssd300_mbv2_coco.py.
The recipe was proven on small pairs (docs/results.md). There the published weights, those of
ssd_kd_vgg_to_mbv2_coco_reference.py, gained nothing.
"""

_base_ = ['./ssd300_mbv2_coco.py', './_base_/methods/ssd_balanced.py']
from mmkd.config import pair

_base_.distiller.student_recorders.feature.source = 'neck'
_base_.distiller.teacher_recorders.feature.source = 'neck'
model = pair(
    _base_,
    teacher='{{ fileDirname }}/ssd300_vgg16_coco.py',
    teacher_ckpt='https://download.openmmlab.com/mmdetection/v2.0/ssd/ssd300_coco/'
    'ssd300_coco_20210803_015428-d231a06e.pth',
)
