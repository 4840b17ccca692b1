"""SSD of width 8 on a quarter of the cards' labels.

mmkd data split data/cards/annotations/train.json --shares fit=0.8 test=0.2
mmkd data split data/cards/annotations/fit.json --shares quarter=0.25 rest=0.75
mmkd train configs/ssd_r18w8_cards_quarter.py
Expected: see docs/any_teacher.md.
"""

_base_ = './ssd_r18w8_cards.py'
train_dataloader = dict(dataset=dict(ann_file='annotations/quarter.json'))
test_dataloader = dict(dataset=dict(ann_file='annotations/test.json'))
test_evaluator = dict(ann_file='data/cards/annotations/test.json')
max_epochs = 150  # as many steps as 40 on all images
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
param_scheduler = [
    _base_.param_scheduler[0],
    {**_base_.param_scheduler[1], 'T_max': max_epochs, 'end': max_epochs},
]
