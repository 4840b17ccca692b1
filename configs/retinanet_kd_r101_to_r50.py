"""RetinaNet-R101 teaches RetinaNet-R50 on COCO: soft classes and boxes, row by row.

tools/dist_train.sh configs/retinanet_kd_r101_to_r50.py 8
Expected: not run at this size; the baseline is mmdet::retinanet/retinanet_r50_fpn_1x_coco.py.
Chosen by mmkd pair.
"""

_base_ = ['mmdet::retinanet/retinanet_r50_fpn_1x_coco.py', './_base_/methods/prediction_rows.py']
from mmkd.config import pair

model = pair(
    _base_,
    teacher='mmdet::retinanet/retinanet_r101_fpn_2x_coco.py',
    teacher_ckpt='https://download.openmmlab.com/mmdetection/v2.0/retinanet/retinanet_r101_fpn_2x_coco/'
    'retinanet_r101_fpn_2x_coco_20200131-5560aee8.pth',
)
