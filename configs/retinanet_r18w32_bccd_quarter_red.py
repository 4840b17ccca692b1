"""RetinaNet of width 32 on the red blood cells of a quarter of BCCD, a teacher.

mmkd train configs/retinanet_r18w32_bccd_quarter_red.py
Expected: see docs/any_teacher.md.
"""

_base_ = './retinanet_r18w32_bccd_quarter.py'
metainfo = dict(classes=('RBC',))
model = dict(bbox_head=dict(num_classes=1))
train_dataloader = dict(dataset=dict(metainfo=metainfo))
val_dataloader = dict(dataset=dict(metainfo=metainfo))
test_dataloader = dict(dataset=dict(metainfo=metainfo))
