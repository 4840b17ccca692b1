"""FCOS-R101 teaches FCOS-R50 on COCO: what the teacher's head predicts from its maps (CrossKD).

tools/dist_train.sh configs/fcos_kd_r101_to_r50.py 8
Expected: not run at this size; the baseline is mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py.
Chosen by mmkd pair.
"""

_base_ = ['mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py', './_base_/methods/crosskd.py']
from mmkd.config import pair

model = pair(
    _base_,
    teacher='mmdet::fcos/fcos_r101-caffe_fpn_gn-head_ms-640-800-2x_coco.py',
    teacher_ckpt='https://download.openmmlab.com/mmdetection/v2.0/fcos/fcos_r101_caffe_fpn_gn-head_mstrain_640-800_2x_coco/'
    'fcos_r101_caffe_fpn_gn-head_mstrain_640-800_2x_coco-511424d6.pth',
)
