"""A teacher of a quarter of the cards' labels teaches an SSD of width 8 on all images.

mmkd train configs/ssd_kd_r18_to_r18w8_cards_unlabelled.py
Expected: see docs/any_teacher.md; without the images that have no labels it is
configs/ssd_kd_r18_to_r18w8_cards_quarter.py.
"""

_base_ = './ssd_kd_r18_to_r18w8_cards_quarter.py'
# Of a batch of 16 images 4 have labels: 15 steps an epoch, in all as many as without the others.
rest = dict(images='data/cards/annotations/rest.json', root='data/cards/JPEGImages', share=0.75)
model = dict(unlabelled=rest)
max_epochs = 40
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
param_scheduler = [
    _base_.param_scheduler[0],
    {**_base_.param_scheduler[1], 'T_max': max_epochs, 'end': max_epochs},
]
