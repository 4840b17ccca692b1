"""A teacher of a quarter of BCCD's labels teaches a RetinaNet of width 8 on all images.

mmkd train configs/retinanet_kd_r18_to_r18w8_bccd_unlabelled.py
Expected: see docs/any_teacher.md; without the images that have no labels it is
configs/retinanet_kd_r18_to_r18w8_bccd_quarter.py.
"""

_base_ = ['./retinanet_r18w8_bccd_quarter.py', './_base_/methods/prediction_rows.py']
from mmkd.config import pair

# To the 16 images of a batch come 48 without labels; the steps are as many as without them.
# Chosen on the validation images: docs/logs/other_heads_tuning.txt.
train_dataloader = dict(batch_size=64)
model = pair(
    _base_,
    teacher='{{ fileDirname }}/retinanet_r18w32_bccd_quarter.py',
    teacher_ckpt='work_dirs/retinanet_r18w32_bccd_quarter/epoch_130.pth',
    unlabelled=dict(
        images='data/bccd/annotations/rest.json', root='data/bccd/JPEGImages', share=0.75
    ),
    balance=dict(shares=3.0),  # as with all labels: docs/logs/other_heads_tuning.txt
    lean_teacher=dict(),
)
