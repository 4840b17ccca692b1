"""kd"""

_base_ = ['./ssd_r18w8_digits.py']
maps = dict(type='MethodOutputs', source='mmdet.models.dense_heads.SSDHead.forward')
get_targets = dict(type='MethodOutputs', source='mmdet.models.dense_heads.SSDHead.get_targets')
distiller = dict(
    type='ConfigurableDistiller',
    student_recorders=dict(head=maps, targets=get_targets),
    teacher_recorders=dict(head=maps),
    distill_losses=dict(
        loss_soft=dict(type='WeightedSoftCls', temperature=2.0, bg_weight=1.0, loss_weight=1.0),
        loss_bounded=dict(type='TeacherBoundedReg', loss_weight=0.5),
    ),
    loss_forward_mappings=dict(
        loss_soft=dict(
            preds_S=dict(recorder='head', from_student=True, data_idx=0),
            preds_T=dict(recorder='head', from_student=False, data_idx=0),
            targets=dict(recorder='targets', from_student=True),
        ),
        loss_bounded=dict(
            preds_S=dict(recorder='head', from_student=True, data_idx=1),
            preds_T=dict(recorder='head', from_student=False, data_idx=1),
            targets=dict(recorder='targets', from_student=True),
        ),
    ),
)
model = dict(
    _delete_=True,
    _scope_='mmrazor',
    type='DetectionDistill',
    architecture=_base_.model,
    teacher='{{ fileDirname }}/ssd_r18w32_digits.py',
    teacher_ckpt='work_dirs/ssd_r18w32_digits/epoch_5.pth',
    distiller=distiller,
)
