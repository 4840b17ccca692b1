"""YOLOX-l teaches YOLOX-s on COCO: the teacher's features where it is sure of an object.

tools/dist_train.sh configs/yolox_kd_l_to_s.py 8
Expected: not run at this size; the baseline is mmdet::yolox/yolox_s_8xb8-300e_coco.py.
Chosen by mmkd pair.
"""

_base_ = ['mmdet::yolox/yolox_s_8xb8-300e_coco.py', './_base_/methods/score_imitation.py']
from mmkd.config import pair

model = pair(
    _base_,
    teacher='mmdet::yolox/yolox_l_8xb8-300e_coco.py',
    teacher_ckpt='https://download.openmmlab.com/mmdetection/v2.0/yolox/yolox_l_8x8_300e_coco/'
    'yolox_l_8x8_300e_coco_20211126_140236-d3bd2b23.pth',
)
