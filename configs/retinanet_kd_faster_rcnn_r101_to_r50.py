"""Faster R-CNN-R101 teaches RetinaNet-R50 on COCO: features, weighed by the teacher's scores.

tools/dist_train.sh configs/retinanet_kd_faster_rcnn_r101_to_r50.py 8
Expected: not run at this size; the baseline is mmdet::retinanet/retinanet_r50_fpn_1x_coco.py.
Chosen by mmkd pair.
"""

_base_ = ['mmdet::retinanet/retinanet_r50_fpn_1x_coco.py', './_base_/methods/score_imitation.py']
from mmkd.config import pair

model = pair(
    _base_,
    teacher='mmdet::faster_rcnn/faster-rcnn_r101_fpn_2x_coco.py',
    teacher_ckpt='https://download.openmmlab.com/mmdetection/v2.0/faster_rcnn/faster_rcnn_r101_fpn_2x_coco/'
    'faster_rcnn_r101_fpn_2x_coco_bbox_mAP-0.398_20200504_210455-1d2dac9c.pth',
)
