"""An ONNX file teaches a RetinaNet of width 8 on BCCD, of which a quarter has labels.

mmkd train configs/retinanet_r18w32_bccd_quarter.py
mmkd export work_dirs/retinanet_r18w32_bccd_quarter/epoch_130.pth --format onnx --nms \
    --out work_dirs/bccd_quarter.onnx
mmkd train configs/retinanet_kd_onnx_to_r18w8_bccd.py
Expected: see docs/any_teacher.md; the baseline is configs/retinanet_r18w8_bccd_quarter.py.
"""

_base_ = ['./retinanet_r18w8_bccd_quarter.py', './_base_/methods/soft_ground_truth.py']
from mmkd.config import pair

# To the 16 images of a batch come as many without labels; the steps are as many as without them.
train_dataloader = dict(batch_size=32)
model = pair(
    _base_,
    teacher='work_dirs/bccd_quarter.onnx',
    unlabelled=dict(
        images='data/bccd/annotations/rest.json', root='data/bccd/JPEGImages', share=0.5
    ),
    balance=dict(shares=1.0),
)
