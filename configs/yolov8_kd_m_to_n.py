"""YOLOv8m teaches YOLOv8n on COCO: the teacher's features where it is sure of an object.

tools/dist_train.sh configs/yolov8_kd_m_to_n.py 8
Expected: not run at this size; the baseline is configs/yolov8_n_coco.py.
Chosen by mmkd pair.
"""

_base_ = ['./yolov8_n_coco.py', './_base_/methods/score_imitation.py']
from mmkd.config import pair

model = pair(
    _base_,
    teacher='mmyolo::yolov8/yolov8_m_syncbn_fast_8xb16-500e_coco.py',
    teacher_ckpt='https://download.openmmlab.com/mmyolo/v0/yolov8/yolov8_m_syncbn_fast_8xb16-500e_coco/'
    'yolov8_m_syncbn_fast_8xb16-500e_coco_20230115_192200-c22e560a.pth',
)
