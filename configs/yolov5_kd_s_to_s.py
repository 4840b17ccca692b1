"""YOLOv5s teaches a new YOLOv5s on COCO: a pair of the same structure.

tools/dist_train.sh configs/yolov5_kd_s_to_s.py 8
Expected: not run; the baseline is configs/yolov5_s_coco.py.
"""

_base_ = ['./yolov5_s_coco.py', './_base_/methods/yolov5_output.py']
from mmkd.config import pair

model = pair(
    _base_,
    teacher='{{ fileDirname }}/yolov5_s_coco.py',
    teacher_ckpt='https://download.openmmlab.com/mmyolo/v0/yolov5/yolov5_s-v61_syncbn_fast_8xb16-300e_coco/'
    'yolov5_s-v61_syncbn_fast_8xb16-300e_coco_20220918_084700-86e02187.pth',
)
