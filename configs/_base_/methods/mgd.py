# MGD (Yang et al., ECCV 2022) on all levels of the neck: two convolutions make the teacher's
# features of the student's, of which 65 % of the cells are hidden.
__method__ = dict(
    teaches="the teacher's features, made of a part of the student's",
    needs=['a level in common'],
    source='Yang et al., ECCV 2022 (arXiv 2205.01529)',
    published=[('RetinaHead', 'RetinaHead', 3.6)],
)
balance = dict(shares=0.5)
distiller = dict(
    type='ConfigurableDistiller',
    student_recorders=dict(feature=dict(type='ModuleOutputs')),
    teacher_recorders=dict(feature=dict(type='ModuleOutputs')),
    connectors=dict(
        masked=dict(type='EachLevelConnector', connector=dict(type='MGDConnector')),
    ),
    distill_losses=dict(loss_feature=dict(type='EachLevel', loss=dict(type='MGDLoss'))),
    loss_forward_mappings=dict(
        loss_feature=dict(
            preds_S=dict(recorder='feature', from_student=True, connector='masked'),
            preds_T=dict(recorder='feature', from_student=False),
        )
    ),
)
