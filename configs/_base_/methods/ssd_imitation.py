# Chen et al., NeurIPS 2017 (soft classes, teacher-bounded boxes), and fine-grained feature
# imitation (Wang et al., CVPR 2019) at the maps that the head reads. A pair sets the channels of
# the adapter and the anchors of the mask.
_base_ = './ssd_chen2017.py'
student_loss_weights = dict(_delete_=True)
feature = dict(type='ModuleOutputs', source='backbone')
distiller = dict(
    student_recorders=dict(
        feature=feature,
        truth=dict(
            type='MethodInputsCopy', source='mmdet.models.dense_heads.ssd_head.SSDHead.loss'
        ),
    ),
    teacher_recorders=dict(feature=feature),
    connectors=dict(
        adapter=dict(type='FeatureAdapter', in_channels=[], out_channels=[]),
        mask=dict(type='ImitationMaskConnector', prior_generator=dict()),
    ),
    distill_losses=dict(loss_imitation=dict(type='FineGrainedImitation', loss_weight=1.0)),
    loss_forward_mappings=dict(
        loss_imitation=dict(
            preds_S=dict(recorder='feature', from_student=True, connector='adapter'),
            preds_T=dict(recorder='feature', from_student=False),
            mask=dict(recorder='truth', from_student=True, connector='mask'),
        ),
    ),
)
