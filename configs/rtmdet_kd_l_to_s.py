"""RTMDet-l teaches RTMDet-s on COCO: where its features are strongest (CWD).

tools/dist_train.sh configs/rtmdet_kd_l_to_s.py 8
Expected: not run at this size; the baseline is mmdet::rtmdet/rtmdet_s_8xb32-300e_coco.py.
Chosen by mmkd pair.
"""

_base_ = ['mmdet::rtmdet/rtmdet_s_8xb32-300e_coco.py', './_base_/methods/cwd.py']
from mmkd.config import pair

model = pair(
    _base_,
    teacher='mmdet::rtmdet/rtmdet_l_8xb32-300e_coco.py',
    teacher_ckpt='https://download.openmmlab.com/mmdetection/v3.0/rtmdet/rtmdet_l_8xb32-300e_coco/'
    'rtmdet_l_8xb32-300e_coco_20220719_112030-5a0be7c4.pth',
)
