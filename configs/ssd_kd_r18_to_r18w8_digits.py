"""SSD on a ResNet-18 of width 32 teaches one of width 8 on digits.

mmkd train configs/ssd_kd_r18_to_r18w8_digits.py  (mmkd demo does all of it)
Expected: see docs/results.md.
"""

_base_ = ['./ssd_r18w8_digits.py', './_base_/methods/ssd_balanced.py']
_base_.distiller.connectors.adapter.update(in_channels=[16, 32, 64], out_channels=[64, 128, 256])
_base_.distiller.connectors.mask.update(prior_generator=_base_.model.bbox_head.anchor_generator)
model = dict(
    _delete_=True,
    _scope_='mmrazor',
    type='DetectionDistill',
    architecture=_base_.model,
    teacher='{{ fileDirname }}/ssd_r18w32_digits.py',
    teacher_ckpt='work_dirs/ssd_r18w32_digits/epoch_5.pth',
    lean_teacher='auto',
    balance=_base_.balance,
    distiller=_base_.distiller,
)
