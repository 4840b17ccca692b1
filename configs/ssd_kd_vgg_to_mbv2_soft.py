"""SSD300-VGG16 teaches SSD300-MobileNetV2 on VOC07+12 with plain soft targets.

tools/dist_train.sh configs/ssd_kd_vgg_to_mbv2_soft.py 8
Expected: not run; the baseline is configs/ssd300_mbv2_voc.py.
"""

_base_ = ['./ssd300_mbv2_voc.py', './_base_/methods/ssd_soft_target.py']
from mmkd.config import pair

model = pair(
    _base_,
    teacher='{{ fileDirname }}/ssd300_vgg16_voc.py',
    teacher_ckpt='https://download.openmmlab.com/mmdetection/v2.0/pascal_voc/ssd300_voc0712/'
    'ssd300_voc0712_20220320_194658-17edda1b.pth',
)
