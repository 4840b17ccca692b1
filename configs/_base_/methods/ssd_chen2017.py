# Chen et al., NeurIPS 2017, for SSD heads with equal priors and classes:
# 0.3 soft classification + 0.7 hard classification + 0.5 teacher-bounded boxes + hard boxes.
__method__ = dict(
    teaches='soft classes on mined priors and boxes bounded by the teacher',
    needs=['SSDHead', 'equal classes', 'equal priors', 'equal coder'],
    source='Chen et al., NeurIPS 2017',
)
student_loss_weights = dict(loss_cls=0.7)
distiller = dict(
    type='ConfigurableDistiller',
    student_recorders=dict(
        head=dict(type='ModuleOutputs', source='bbox_head'),
        targets=dict(
            type='MethodOutputs', source='mmdet.models.dense_heads.ssd_head.SSDHead.get_targets'
        ),
    ),
    teacher_recorders=dict(head=dict(type='ModuleOutputs', source='bbox_head')),
    distill_losses=dict(
        loss_soft=dict(type='WeightedSoftCls', loss_weight=0.3),
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
