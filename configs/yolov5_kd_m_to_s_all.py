"""YOLOv5m teaches YOLOv5s on COCO: what is now yolov5_kd_m_to_s.py, by its earlier name.

tools/dist_train.sh configs/yolov5_kd_m_to_s_all.py 8
Expected: not run; the baseline is configs/yolov5_s_coco.py.
"""

_base_ = ['./yolov5_s_coco.py', './_base_/methods/yolov5_balanced.py']
from mmkd.config import pair

model = pair(
    _base_,
    teacher='{{ fileDirname }}/yolov5_m_coco.py',
    teacher_ckpt='https://download.openmmlab.com/mmyolo/v0/yolov5/yolov5_m-v61_syncbn_fast_8xb16-300e_coco/'
    'yolov5_m-v61_syncbn_fast_8xb16-300e_coco_20220917_204944-516a710f.pth',
)
