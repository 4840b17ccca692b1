"""YOLOv5s teaches YOLOv5n on digits: classes, boxes and features.

mmkd train configs/yolov5_kd_s_to_n_digits.py
Expected: see docs/results.md; the baseline is configs/yolov5_n_digits.py.
"""

_base_ = ['./yolov5_n_digits.py', './_base_/methods/yolov5_balanced.py']
_base_.distiller.connectors.adapter.update(in_channels=128, out_channels=256)
_base_.distiller.connectors.mask.prior_generator.update(base_sizes=_base_.anchors)
_base_.distiller.distill_losses.loss_output.update(num_classes=10)
_base_.distiller.distill_losses.loss_box.update(
    num_classes=10, prior_generator=_base_.model.bbox_head.prior_generator
)
model = dict(
    _delete_=True,
    _scope_='mmrazor',
    type='DetectionDistill',
    architecture=_base_.model,
    teacher='{{ fileDirname }}/yolov5_s_digits.py',
    teacher_ckpt='work_dirs/yolov5_s_digits/epoch_8.pth',
    lean_teacher='auto',
    balance=_base_.balance,
    distiller=_base_.distiller,
)
