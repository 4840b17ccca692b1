# CWD (Shu et al., ICCV 2021) on all levels of the neck, behind a BatchNorm without weights on both
# sides, as RTMDet and DAMO-YOLO take it.
__method__ = dict(
    teaches='where in the image each channel of the features is strongest',
    needs=['a level in common'],
    source='Shu et al., ICCV 2021 (arXiv 2011.13256), with BatchNorm',
    published=[
        ('DAMO-YOLO', 'DAMO-YOLO', 1.2),
        ('RTMDetHead', 'RTMDetHead', 0.8),  # the least of +0.8 to +1.1
        ('RTMDetSepBNHead', 'RTMDetSepBNHead', 0.8),
    ],
)
balance = dict(shares=0.5)
distiller = dict(
    type='ConfigurableDistiller',
    student_recorders=dict(feature=dict(type='ModuleOutputs')),
    teacher_recorders=dict(feature=dict(type='ModuleOutputs')),
    connectors=dict(
        adapter=[dict(type='FeatureAdapter'), dict(type='StandardLevels')],
        standard=dict(type='StandardLevels'),
    ),
    distill_losses=dict(
        loss_feature=dict(type='EachLevel', loss=dict(type='ChannelWiseDivergence'))
    ),
    loss_forward_mappings=dict(
        loss_feature=dict(
            preds_S=dict(recorder='feature', from_student=True, connector='adapter'),
            preds_T=dict(recorder='feature', from_student=False, connector='standard'),
        )
    ),
)
