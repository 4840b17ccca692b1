# Fine-grained feature imitation (Wang et al., CVPR 2019) at the second concatenation of the neck
# (stride 8), near the objects. loss_weight counts the images as yolov5_output.py does.
__method__ = dict(
    teaches='features near objects',
    needs=['YOLOv5Head'],
    source='Wang et al., CVPR 2019',
)
distiller = dict(
    type='ConfigurableDistiller',
    student_recorders=dict(
        feature=dict(type='ModuleInputs', source='neck.top_down_layers.1'),
        truth=dict(
            type='MethodInputsCopy',  # MMYOLO's head overwrites the boxes
            source='mmyolo.models.dense_heads.yolov5_head.YOLOv5Head.loss',
        ),
    ),
    teacher_recorders=dict(feature=dict(type='ModuleInputs', source='neck.top_down_layers.1')),
    connectors=dict(
        adapter=dict(type='FeatureAdapter', kernel_size=3),
        mask=dict(
            type='ImitationMaskConnector',
            prior_generator=dict(),  # the head's own, with what a pair changes in it
            levels=[0],
        ),
    ),
    distill_losses=dict(
        loss_imitation=dict(type='FineGrainedImitation', loss_weight=0.01 * 8 * 16)
    ),
    loss_forward_mappings=dict(
        loss_imitation=dict(
            preds_S=dict(recorder='feature', from_student=True, data_idx=0, connector='adapter'),
            preds_T=dict(recorder='feature', from_student=False, data_idx=0),
            mask=dict(recorder='truth', from_student=True, connector='mask'),
        )
    ),
)
