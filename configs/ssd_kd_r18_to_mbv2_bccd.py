"""SSD on a ResNet-18 of width 32 teaches one on a MobileNetV2 of half width on BCCD.

mmkd train configs/ssd_kd_r18_to_mbv2_bccd.py
Expected: see docs/results.md; the baseline is configs/ssd_mbv2_bccd.py.
"""

_base_ = ['./ssd_mbv2_bccd.py', './_base_/methods/ssd_scaled.py']
_base_.distiller.connectors.adapter.update(in_channels=[16, 48, 160], out_channels=[64, 128, 256])
_base_.distiller.connectors.mask.update(prior_generator=_base_.model.bbox_head.anchor_generator)
_base_.distiller.distill_losses.loss_soft.update(num_classes=3)
_base_.distiller.distill_losses.loss_box.update(
    prior_generator=_base_.model.bbox_head.anchor_generator,
    bbox_coder=_base_.model.bbox_head.bbox_coder,
)
model = dict(
    _delete_=True,
    _scope_='mmrazor',
    type='DetectionDistill',
    architecture=_base_.model,
    teacher='{{ fileDirname }}/ssd_r18w32_bccd.py',
    teacher_ckpt='work_dirs/ssd_r18w32_bccd/epoch_100.pth',
    lean_teacher='auto',
    # Chosen for this set: docs/logs/bccd_ssd_tuning.txt.
    balance=dict(shares=dict(loss_soft=3.0, loss_box=3.0, loss_imitation=0.5)),
    distiller=_base_.distiller,
)
