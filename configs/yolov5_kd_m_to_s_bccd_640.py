"""YOLOv5m teaches YOLOv5s on BCCD at 640x480: classes, boxes and features.

mmkd train configs/yolov5_kd_m_to_s_bccd_640.py
Expected: not run to its end (docs/results.md); the baseline is configs/yolov5_s_bccd_640.py.
"""

_base_ = ['./yolov5_s_bccd_640.py', './_base_/methods/yolov5_balanced.py']
_base_.distiller.connectors.mask.prior_generator.update(base_sizes=_base_.anchors)
_base_.distiller.distill_losses.loss_output.update(num_classes=3)
_base_.distiller.distill_losses.loss_box.update(
    num_classes=3, prior_generator=_base_.model.bbox_head.prior_generator
)
model = dict(
    _delete_=True,
    _scope_='mmrazor',
    type='DetectionDistill',
    architecture=_base_.model,
    teacher='{{ fileDirname }}/yolov5_m_bccd_640.py',
    teacher_ckpt='work_dirs/yolov5_m_bccd_640/epoch_60.pth',
    lean_teacher='auto',
    balance=dict(shares=1.0),
    distiller=_base_.distiller,
)
