"""YOLOv5s on COCO for 101 epochs, the baseline of yolov5_kd_m_to_s.

tools/dist_train.sh configs/yolov5_s_coco.py 8
Expected: not run. MMYOLO reports box AP 37.7 after 300 epochs.
"""

_base_ = 'mmyolo::yolov5/yolov5_s-v61_syncbn_fast_8xb16-300e_coco.py'

max_epochs = 101
# Without albumentations' four transforms: 1 % of the images each, for a package more.
train_pipeline = [step for step in _base_.train_pipeline if step['type'] != 'mmdet.Albu']
train_dataloader = dict(
    # Anew, without the _scope_ that mmengine adds to "mmyolo::" and then hands to the function.
    collate_fn=dict(_delete_=True, type='yolov5_collate'),
    dataset=dict(pipeline=train_pipeline),
)
train_cfg = dict(max_epochs=max_epochs)
default_hooks = dict(
    param_scheduler=dict(max_epochs=max_epochs),
    channels_last=dict(type='ChannelsLastHook'),  # the layout that suits convolutions
)
optim_wrapper = dict(optimizer=dict(fused=True))  # takes all parameters at once
