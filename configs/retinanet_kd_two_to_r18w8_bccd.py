"""Two teachers, each of own classes, teach a RetinaNet of width 8 on a quarter of BCCD.

mmkd train configs/retinanet_r18w32_bccd_quarter_red.py
mmkd train configs/retinanet_r18w32_bccd_quarter_rest.py
mmkd train configs/retinanet_kd_two_to_r18w8_bccd.py
Expected: see docs/any_teacher.md; the baseline is configs/retinanet_r18w8_bccd_quarter.py.
"""

_base_ = ['./retinanet_r18w8_bccd_quarter.py', './_base_/methods/prediction_rows.py']
from mmkd.config import pair

# To the 16 images of a batch come as many without labels; the steps are as many as without them.
train_dataloader = dict(batch_size=32)
model = pair(
    _base_,
    teacher=[
        dict(
            name='red',
            model='{{ fileDirname }}/retinanet_r18w32_bccd_quarter_red.py',
            ckpt='work_dirs/retinanet_r18w32_bccd_quarter_red/epoch_130.pth',
        ),
        dict(
            name='rest',
            model='{{ fileDirname }}/retinanet_r18w32_bccd_quarter_rest.py',
            ckpt='work_dirs/retinanet_r18w32_bccd_quarter_rest/epoch_130.pth',
        ),
    ],
    unlabelled=dict(
        images='data/bccd/annotations/rest.json', root='data/bccd/JPEGImages', share=0.5
    ),
    balance=dict(shares=3.0),
)
