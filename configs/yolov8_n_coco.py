"""YOLOv8n on COCO, the baseline of yolov8_kd_m_to_n.

tools/dist_train.sh configs/yolov8_n_coco.py 8
Expected: not run. MMYOLO reports box AP 37.2 after 500 epochs.
"""

_base_ = 'mmyolo::yolov8/yolov8_n_syncbn_fast_8xb16-500e_coco.py'

# Without albumentations' four transforms: 1 % of the images each, for a package more.
train_pipeline = [step for step in _base_.train_pipeline if step['type'] != 'mmdet.Albu']
train_pipeline_stage2 = [
    step for step in _base_.train_pipeline_stage2 if step['type'] != 'mmdet.Albu'
]
train_dataloader = dict(
    # Anew, without the _scope_ that mmengine adds to "mmyolo::" and then hands to the function.
    collate_fn=dict(_delete_=True, type='yolov5_collate'),
    dataset=dict(pipeline=train_pipeline),
)
_base_.custom_hooks[1].switch_pipeline = train_pipeline_stage2
