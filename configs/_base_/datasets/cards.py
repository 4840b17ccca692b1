# Photographs of playing cards in COCO form under data/cards/ (docs/experiments.md says where from),
# upright at 144x192: 0.38 of their size. A mirrored letter is none, a card turned by 180° is one.
_base_ = './bccd.py'
data_root = 'data/cards/'
metainfo = dict(classes=('nine', 'ten', 'jack', 'queen', 'king', 'ace'))
scale = (144, 192)
train_pipeline = _base_.train_dataloader.dataset.pipeline
train_pipeline[2].update(scale=scale)
train_pipeline[3].update(scaling_ratio_range=(0.6, 1.5), max_translate_ratio=0.2)
train_pipeline[4].update(prob=0.5, direction='diagonal')
train_pipeline.insert(-1, dict(type='PhotoMetricDistortion'))
test_pipeline = _base_.val_dataloader.dataset.pipeline
test_pipeline[1].update(scale=scale)
dataset = dict(data_root=data_root, metainfo=metainfo)
train_dataloader = dict(dataset=dict(**dataset, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(**dataset, pipeline=test_pipeline))
test_dataloader = dict(
    dataset=dict(**dataset, pipeline=test_pipeline, ann_file='annotations/val.json')
)
val_evaluator = dict(ann_file=data_root + 'annotations/val.json')
test_evaluator = val_evaluator
