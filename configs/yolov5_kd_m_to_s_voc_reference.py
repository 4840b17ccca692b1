"""YOLOv5m teaches YOLOv5s on VOC 07+12 by published weights: output distillation.

tools/dist_train.sh configs/yolov5_kd_m_to_s_voc_reference.py 1
Expected: not run; the baseline is configs/yolov5_s_voc.py.
"""

_base_ = ['./yolov5_s_voc.py', './_base_/methods/yolov5_output.py']
from mmkd.config import pair

_base_.distiller.distill_losses.loss_output.update(loss_weight=0.5 * 64)
model = pair(
    _base_,
    teacher='{{ fileDirname }}/yolov5_m_voc.py',
    teacher_ckpt='https://download.openmmlab.com/mmyolo/v0/yolov5/yolov5_m-v61_fast_1xb64-50e_voc/'
    'yolov5_m-v61_fast_1xb64-50e_voc_20221017_114138-815c143a.pth',
)
