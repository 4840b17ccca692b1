"""ATSS-R101 teaches ATSS-R50 on COCO: what the teacher's head predicts from its maps (CrossKD).

tools/dist_train.sh configs/atss_kd_r101_to_r50.py 8
Expected: not run at this size; the baseline is mmdet::atss/atss_r50_fpn_1x_coco.py.
Chosen by mmkd pair.
"""

_base_ = ['mmdet::atss/atss_r50_fpn_1x_coco.py', './_base_/methods/crosskd.py']
from mmkd.config import pair

model = pair(
    _base_,
    teacher='mmdet::atss/atss_r101_fpn_1x_coco.py',
    teacher_ckpt='https://download.openmmlab.com/mmdetection/v2.0/atss/atss_r101_fpn_1x_coco/'
    'atss_r101_fpn_1x_20200825-dfcadd6f.pth',
)
