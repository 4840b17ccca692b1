"""SSD300-MobileNetV2 on COCO, the baseline of every distilled run.

tools/dist_train.sh configs/ssd300_mbv2_coco.py 8
Expected: not run.
"""

_base_ = ['./ssd300_vgg16_coco.py', './_base_/students/ssd300_mbv2.py']
model = _base_.student
# The layout that suits convolutions, and an optimizer that takes all parameters at once.
default_hooks = dict(channels_last=dict(type='ChannelsLastHook'))
optim_wrapper = dict(optimizer=dict(fused=True))
