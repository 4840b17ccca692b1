"""RetinaNet of width 32 on a quarter of BCCD's labels, the teacher.

mmkd train configs/retinanet_r18w32_bccd_quarter.py
Expected: see docs/any_teacher.md.
"""

_base_ = './retinanet_r18w32_bccd.py'
train_dataloader = dict(dataset=dict(ann_file='annotations/quarter.json'))
max_epochs = 130
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
param_scheduler = [
    _base_.param_scheduler[0],
    {**_base_.param_scheduler[1], 'T_max': max_epochs, 'end': max_epochs},
]
