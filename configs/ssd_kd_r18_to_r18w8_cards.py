"""SSD on a ResNet-18 of width 32 teaches one of width 8 on playing cards.

mmkd train configs/ssd_kd_r18_to_r18w8_cards.py
Expected: see docs/results.md; the baseline is configs/ssd_r18w8_cards.py.
"""

_base_ = ['./ssd_r18w8_cards.py', './_base_/methods/ssd_balanced.py']
_base_.distiller.connectors.adapter.update(in_channels=[16, 32, 64], out_channels=[64, 128, 256])
_base_.distiller.connectors.mask.update(prior_generator=_base_.model.bbox_head.anchor_generator)
model = dict(
    _delete_=True,
    _scope_='mmrazor',
    type='DetectionDistill',
    architecture=_base_.model,
    teacher='{{ fileDirname }}/ssd_r18w32_cards.py',
    teacher_ckpt='work_dirs/ssd_r18w32_cards/epoch_60.pth',
    lean_teacher='auto',
    # Chosen for this set: docs/logs/cards_ssd_tuning.txt.
    balance=dict(shares=dict(loss_soft=1.0, loss_box=1.0, loss_imitation=0.1)),
    distiller=_base_.distiller,
)
