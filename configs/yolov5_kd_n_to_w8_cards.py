"""YOLOv5n teaches one of half its width on playing cards: classes, boxes and features.

mmkd train configs/yolov5_kd_n_to_w8_cards.py
Expected: see docs/results.md; the baseline is configs/yolov5_w8_cards.py.
"""

_base_ = ['./yolov5_w8_cards.py', './_base_/methods/yolov5_balanced.py']
_base_.distiller.connectors.adapter.update(in_channels=64, out_channels=128)
_base_.distiller.connectors.mask.prior_generator.update(base_sizes=_base_.anchors)
_base_.distiller.distill_losses.loss_output.update(num_classes=6)
_base_.distiller.distill_losses.loss_box.update(
    num_classes=6, prior_generator=_base_.model.bbox_head.prior_generator
)
model = dict(
    _delete_=True,
    _scope_='mmrazor',
    type='DetectionDistill',
    architecture=_base_.model,
    teacher='{{ fileDirname }}/yolov5_n_cards.py',
    teacher_ckpt='work_dirs/yolov5_n_cards/epoch_100.pth',
    lean_teacher='auto',
    balance=dict(shares=1.0),  # docs/logs/cards_yolov5_tuning.txt
    distiller=_base_.distiller,
)
