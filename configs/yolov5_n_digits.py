"""YOLOv5n on digits of 128 px: the baseline.

mmkd data digits && mmkd train configs/yolov5_n_digits.py
Expected: see docs/results.md.
"""

_base_ = './_base_/yolov5_n_small.py'

data_root = 'data/digits/'
classes = ('zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine')
anchors = [
    [(9, 17), (12, 21), (17, 25)],
    [(15, 32), (22, 32), (19, 40)],
    [(29, 39), (24, 48), (31, 50)],
]
model = dict(
    bbox_head=dict(
        head_module=dict(num_classes=len(classes)), prior_generator=dict(base_sizes=anchors)
    )
)
dataset = dict(data_root=data_root, metainfo=dict(classes=classes))
train_dataloader = dict(dataset=dataset)
val_dataloader = dict(dataset=dataset)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/val.json')
test_evaluator = val_evaluator
