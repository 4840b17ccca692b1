"""The student of ssd_r18w8_bccd evaluated on the VOC form of BCCD: VOC mAP.

mmkd test configs/ssd_r18w8_bccd_voc.py work_dirs/ssd_r18w8_bccd/epoch_40.pth
Expected: see docs/results.md.
"""

_base_ = './ssd_r18w8_bccd.py'
voc = dict(type='XMLDataset', data_prefix=dict(_delete_=True, sub_data_root=''))
train_dataloader = dict(dataset=dict(**voc, ann_file='ImageSets/Main/train.txt'))
val_dataloader = dict(dataset=dict(**voc, ann_file='ImageSets/Main/val.txt'))
test_dataloader = dict(dataset=dict(**voc, ann_file='ImageSets/Main/test.txt'))
val_evaluator = dict(_delete_=True, type='VOCMetric', metric='mAP', eval_mode='area')
test_evaluator = val_evaluator
