"""YOLOv5s on VOC 07+12 from COCO's weights: the baseline of yolov5_kd_m_to_s_voc.

tools/dist_train.sh configs/yolov5_s_voc.py 1
Expected: not run.
"""

_base_ = 'mmyolo::yolov5/voc/yolov5_s-v61_fast_1xb64-50e_voc.py'

# Both as in yolov5_s_coco.py; a list is replaced as a whole.
train_pipeline = [step for step in _base_.train_pipeline if step['type'] != 'mmdet.Albu']
train_dataloader = dict(
    collate_fn=dict(_delete_=True, type='yolov5_collate'),
    dataset=dict(
        datasets=[
            {**part, 'pipeline': train_pipeline}
            for part in _base_.train_dataloader.dataset.datasets
        ]
    ),
)
# The layout that suits convolutions, and an optimizer that takes all parameters at once.
default_hooks = dict(channels_last=dict(type='ChannelsLastHook'))
optim_wrapper = dict(optimizer=dict(fused=True))
