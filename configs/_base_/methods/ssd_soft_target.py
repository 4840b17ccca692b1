# Soft targets (Hinton et al. 2015) on every prior of a softmax head: MMRazor's own KLDivergence.
# batchmean divides by the priors of the batch, of which nearly all are background: hence the
# weight.
__method__ = dict(
    teaches='soft targets on every prior',
    needs=['softmax', 'dense', 'equal classes', 'equal priors'],
    source='Hinton et al. 2015',
)
distiller = dict(
    type='ConfigurableDistiller',
    student_recorders=dict(head=dict(type='ModuleOutputs', source='bbox_head')),
    teacher_recorders=dict(head=dict(type='ModuleOutputs', source='bbox_head')),
    connectors=dict(rows=dict(type='FlattenCls')),
    distill_losses=dict(loss_soft=dict(type='KLDivergence', tau=2.0, loss_weight=100.0)),
    loss_forward_mappings=dict(
        loss_soft=dict(
            preds_S=dict(recorder='head', from_student=True, data_idx=0, connector='rows'),
            preds_T=dict(recorder='head', from_student=False, data_idx=0, connector='rows'),
        )
    ),
)
