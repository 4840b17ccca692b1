"""SSD300-VGG16 on COCO, the teacher: mmdet's own config.

tools/dist_train.sh configs/ssd300_vgg16_coco.py 8
Expected: 25.5 mAP (mmdet's model zoo); not run here.
"""

_base_ = 'mmdet::ssd/ssd300_coco.py'
