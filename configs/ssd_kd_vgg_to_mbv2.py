"""SSD300-VGG16 teaches SSD300-MobileNetV2 on VOC07+12 (VOC mAP).

tools/dist_train.sh configs/ssd_kd_vgg_to_mbv2.py 8
Expected: not run; the baseline is configs/ssd300_mbv2_voc.py.
"""

_base_ = ['./ssd300_mbv2_voc.py', './_base_/methods/ssd_chen2017.py']
model = dict(
    _delete_=True,
    _scope_='mmrazor',
    type='DetectionDistill',
    architecture=_base_.model,
    teacher='{{ fileDirname }}/ssd300_vgg16_voc.py',
    teacher_ckpt='https://download.openmmlab.com/mmdetection/v2.0/pascal_voc/ssd300_voc0712/'
    'ssd300_voc0712_20220320_194658-17edda1b.pth',
    student_loss_weights=_base_.student_loss_weights,
    lean_teacher='auto',
    distiller=_base_.distiller,
)
