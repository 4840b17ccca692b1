"""GFL-R101 teaches GFL-R50 on COCO: the teacher's features where it is sure of an object.

tools/dist_train.sh configs/gfl_kd_r101_to_r50.py 8
Expected: not run at this size; the baseline is mmdet::gfl/gfl_r50_fpn_1x_coco.py.
Chosen by mmkd pair.
"""

_base_ = ['mmdet::gfl/gfl_r50_fpn_1x_coco.py', './_base_/methods/score_imitation.py']
from mmkd.config import pair

model = pair(
    _base_,
    teacher='mmdet::gfl/gfl_r101_fpn_ms-2x_coco.py',
    teacher_ckpt='https://download.openmmlab.com/mmdetection/v2.0/gfl/gfl_r101_fpn_mstrain_2x_coco/'
    'gfl_r101_fpn_mstrain_2x_coco_20200629_200126-dd12f847.pth',
)
