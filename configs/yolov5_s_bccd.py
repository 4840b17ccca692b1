"""YOLOv5s on blood cells (BCCD in COCO form, data/bccd/) at 256x192: the bccd pair's teacher.

python tools/train.py configs/yolov5_s_bccd.py
Expected: not run.
"""

_base_ = './yolov5_n_bccd.py'

model = dict(
    backbone=dict(widen_factor=0.5),
    neck=dict(widen_factor=0.5),
    bbox_head=dict(head_module=dict(widen_factor=0.5)),
)
