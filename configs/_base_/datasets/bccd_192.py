# BCCD at 192x144, 0.3 of its size, for detectors that cost more than a small SSD.
_base_ = './bccd.py'
scale = (192, 144)
train_pipeline = _base_.train_dataloader.dataset.pipeline
train_pipeline[2].update(scale=scale)
test_pipeline = _base_.val_dataloader.dataset.pipeline
test_pipeline[1].update(scale=scale)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
