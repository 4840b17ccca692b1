# Chen et al., NeurIPS 2017 (soft classes, teacher-bounded boxes), and fine-grained feature
# imitation (Wang et al., CVPR 2019) at the maps that the head reads.
__method__ = dict(
    teaches='soft classes on mined priors, bounded boxes and imitated features, by fixed weights',
    needs=['SSDHead', 'equal classes', 'equal priors', 'equal coder', 'equal levels'],
    source='Chen et al., NeurIPS 2017; Wang et al., CVPR 2019',
)
_base_ = './ssd_chen2017.py'
student_loss_weights = dict(_delete_=True)
feature = dict(type='ModuleOutputs', source='backbone')  # 'neck' where there is one
distiller = dict(
    student_recorders=dict(
        feature=feature,
        truth=dict(
            type='MethodInputsCopy', source='mmdet.models.dense_heads.ssd_head.SSDHead.loss'
        ),
    ),
    teacher_recorders=dict(feature=feature),
    connectors=dict(
        adapter=dict(type='FeatureAdapter'),
        mask=dict(type='ImitationMaskConnector'),
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
