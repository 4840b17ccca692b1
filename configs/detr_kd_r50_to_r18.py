"""DETR-R50 teaches DETR-R18 on COCO: what the teacher's queries predict.

tools/dist_train.sh configs/detr_kd_r50_to_r18.py 8
Expected: not run at this size; the baseline is mmdet::detr/detr_r18_8xb2-500e_coco.py.
mmkd pair --method matched_queries: queries are what is common to two DETRs.
"""

_base_ = ['mmdet::detr/detr_r18_8xb2-500e_coco.py', './_base_/methods/matched_queries.py']
from mmkd.config import pair

model = pair(
    _base_,
    teacher='mmdet::detr/detr_r50_8xb2-150e_coco.py',
    teacher_ckpt='https://download.openmmlab.com/mmdetection/v3.0/detr/detr_r50_8xb2-150e_coco/'
    'detr_r50_8xb2-150e_coco_20221023_153551-436d03e8.pth',
)
