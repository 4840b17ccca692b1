"""SSD300-VGG16 on VOC07+12, the teacher: mmdet's own config.

tools/dist_train.sh configs/ssd300_vgg16_voc.py 8
Expected: 77 mAP (mmdet's model zoo); not run here.
"""

_base_ = 'mmdet::pascal_voc/ssd300_voc0712.py'
