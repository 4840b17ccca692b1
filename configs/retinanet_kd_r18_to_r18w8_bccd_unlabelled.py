"""A teacher of a quarter of BCCD's labels teaches a RetinaNet of width 8 on all images.

mmkd train configs/retinanet_kd_r18_to_r18w8_bccd_unlabelled.py
Expected: see docs/any_teacher.md; without the images that have no labels it is
configs/retinanet_kd_r18_to_r18w8_bccd_quarter.py.
"""

_base_ = './retinanet_kd_r18_to_r18w8_bccd_quarter.py'
# To the 16 images of a batch come as many without labels; the steps are as many as without them.
train_dataloader = dict(batch_size=32)
rest = dict(images='data/bccd/annotations/rest.json', root='data/bccd/JPEGImages', share=0.5)
model = dict(unlabelled=rest)
