"""A teacher of a quarter of the cards' labels teaches an SSD of width 8 on all images.

mmkd train configs/ssd_kd_r18_to_r18w8_cards_unlabelled.py
Expected: see docs/any_teacher.md; without the images that have no labels it is
configs/ssd_kd_r18_to_r18w8_cards_quarter.py.
"""

_base_ = ['./ssd_r18w8_cards_quarter.py', './_base_/methods/ssd_balanced.py']
from mmkd.config import pair

# To the 16 images of a batch come as many without labels; the steps are as many as without them.
train_dataloader = dict(batch_size=32)
model = pair(
    _base_,
    teacher='{{ fileDirname }}/ssd_r18w32_cards_quarter.py',
    teacher_ckpt='work_dirs/ssd_r18w32_cards_quarter/epoch_225.pth',
    unlabelled=dict(
        images='data/cards/annotations/rest.json', root='data/cards/JPEGImages', share=0.5
    ),
    balance=dict(shares=dict(loss_soft=1.0, loss_box=1.0, loss_imitation=0.1)),
    lean_teacher=dict(),
)
