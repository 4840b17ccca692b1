"""SSD300-VGG16 teaches SSD300-MobileNetV2 on COCO by the weights of Chen et al. (2017).

tools/dist_train.sh configs/ssd_kd_vgg_to_mbv2_coco_reference.py 8
Expected: not run; the baseline is configs/ssd300_mbv2_coco.py.
"""

_base_ = ['./ssd300_mbv2_coco.py', './_base_/methods/ssd_chen2017.py']
from mmkd.config import pair

model = pair(
    _base_,
    teacher='{{ fileDirname }}/ssd300_vgg16_coco.py',
    teacher_ckpt='https://download.openmmlab.com/mmdetection/v2.0/ssd/ssd300_coco/'
    'ssd300_coco_20210803_015428-d231a06e.pth',
)
