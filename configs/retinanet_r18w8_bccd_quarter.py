"""RetinaNet of width 8 on a quarter of BCCD's labels, for as many steps as on all of them.

mmkd data split data/bccd/annotations/train.json --shares quarter=0.25 rest=0.75
mmkd train configs/retinanet_r18w8_bccd_quarter.py
Expected: see docs/any_teacher.md.
"""

_base_ = './retinanet_r18w8_bccd.py'
train_dataloader = dict(dataset=dict(ann_file='annotations/quarter.json'))
max_epochs = 78
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
param_scheduler = [
    _base_.param_scheduler[0],
    {**_base_.param_scheduler[1], 'T_max': max_epochs, 'end': max_epochs},
]
