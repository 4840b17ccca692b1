"""SSD of width 32 on a quarter of the cards' labels, the teacher.

mmkd train configs/ssd_r18w32_cards_quarter.py
Expected: see docs/any_teacher.md.
"""

_base_ = './ssd_r18w32_cards.py'
train_dataloader = dict(dataset=dict(ann_file='annotations/quarter.json'))
test_dataloader = dict(dataset=dict(ann_file='annotations/test.json'))
test_evaluator = dict(ann_file='data/cards/annotations/test.json')
max_epochs = 225
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
param_scheduler = [
    _base_.param_scheduler[0],
    {**_base_.param_scheduler[1], 'T_max': max_epochs, 'end': max_epochs},
]
