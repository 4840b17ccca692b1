# PKD (Cao et al., NeurIPS 2022) on all levels of the neck: channels standardised, so that only
# their pattern is taught. A level of other channels than the teacher's gets a 1x1 convolution.
__method__ = dict(
    teaches='the pattern of each channel of the features',
    needs=['a level in common'],
    source='Cao et al., NeurIPS 2022 (arXiv 2207.02039)',
    published=[('FCOSHead', 'RetinaHead', 3.8)],
)
balance = dict(shares=0.5)
distiller = dict(
    type='ConfigurableDistiller',
    student_recorders=dict(feature=dict(type='ModuleOutputs')),
    teacher_recorders=dict(feature=dict(type='ModuleOutputs')),
    connectors=dict(
        adapter=dict(type='FeatureAdapter', keep_equal=True),
    ),
    distill_losses=dict(loss_feature=dict(type='EachLevel', loss=dict(type='PKDLoss'))),
    loss_forward_mappings=dict(
        loss_feature=dict(
            preds_S=dict(recorder='feature', from_student=True, connector='adapter'),
            preds_T=dict(recorder='feature', from_student=False),
        )
    ),
)
