"""YOLOv5m on COCO for 300 epochs: the teacher of yolov5_kd_m_to_s.

tools/dist_train.sh configs/yolov5_m_coco.py 8
Expected: not run. MMYOLO reports box AP 45.3; its checkpoint and Ultralytics' yolov5m.pt fit.
"""

_base_ = 'mmyolo::yolov5/yolov5_m-v61_syncbn_fast_8xb16-300e_coco.py'

# Both as in yolov5_s_coco.py.
train_pipeline = [step for step in _base_.train_pipeline if step['type'] != 'mmdet.Albu']
train_dataloader = dict(
    collate_fn=dict(_delete_=True, type='yolov5_collate'), dataset=dict(pipeline=train_pipeline)
)
