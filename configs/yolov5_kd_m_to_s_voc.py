"""YOLOv5m teaches YOLOv5s on VOC 07+12: classes, boxes and features, weighted by balance.

tools/dist_train.sh configs/yolov5_kd_m_to_s_voc.py 1
Expected: not run at this size; the baseline is configs/yolov5_s_voc.py.
The recipe was proven on small pairs (docs/results.md). There the published weights, those of
yolov5_kd_m_to_s_voc_reference.py, did harm.
"""

_base_ = ['./yolov5_s_voc.py', './_base_/methods/yolov5_balanced.py']
from mmkd.config import pair

model = pair(
    _base_,
    teacher='{{ fileDirname }}/yolov5_m_voc.py',
    teacher_ckpt='https://download.openmmlab.com/mmyolo/v0/yolov5/yolov5_m-v61_fast_1xb64-50e_voc/'
    'yolov5_m-v61_fast_1xb64-50e_voc_20221017_114138-815c143a.pth',
)
