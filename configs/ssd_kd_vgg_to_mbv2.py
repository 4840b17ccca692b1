"""SSD300-VGG16 teaches SSD300-MobileNetV2 on VOC07+12 (VOC mAP): classes, boxes and features.

tools/dist_train.sh configs/ssd_kd_vgg_to_mbv2.py 8
Expected: not run at this size; the baseline is configs/ssd300_mbv2_voc.py.
The recipe was proven on small pairs (docs/results.md). There the published weights, those of
ssd_kd_vgg_to_mbv2_reference.py, gained nothing.
"""

_base_ = ['./ssd300_mbv2_voc.py', './_base_/methods/ssd_balanced.py']
from mmkd.config import pair

_base_.distiller.student_recorders.feature.source = 'neck'
_base_.distiller.teacher_recorders.feature.source = 'neck'
model = pair(
    _base_,
    teacher='{{ fileDirname }}/ssd300_vgg16_voc.py',
    teacher_ckpt='https://download.openmmlab.com/mmdetection/v2.0/pascal_voc/ssd300_voc0712/'
    'ssd300_voc0712_20220320_194658-17edda1b.pth',
)
