# Plain output and feature distillation (Adlik/yolov5, --d_output and --d_feature): the reference
# form of the output term at weight 10, and 0.1 x MSE between 1x1-adapted backbone stages.
__method__ = dict(
    teaches='raw outputs and backbone features, by fixed weights',
    needs=['YOLOv5Head', 'equal classes', 'equal priors'],
    source='Adlik/yolov5, --d_output and --d_feature',
)
distiller = dict(
    type='ConfigurableDistiller',
    student_recorders=dict(
        head=dict(type='ModuleOutputs', source='bbox_head'),
        stages=dict(type='ModuleOutputs', source='backbone'),
    ),
    teacher_recorders=dict(
        head=dict(type='ModuleOutputs', source='bbox_head'),
        stages=dict(type='ModuleOutputs', source='backbone'),
    ),
    connectors=dict(
        adapt8=dict(type='FeatureAdapter'),
        adapt16=dict(type='FeatureAdapter'),
        adapt32=dict(type='FeatureAdapter'),
    ),
    distill_losses=dict(
        loss_output=dict(
            type='ObjScaledBoxCls',
            cls_loss='l2',
            box_loss='l2',
            normalizer='mean',
            loss_weight=10.0,
        ),
        loss_feature8=dict(type='mmdet.MSELoss', loss_weight=0.1),
        loss_feature16=dict(type='mmdet.MSELoss', loss_weight=0.1),
        loss_feature32=dict(type='mmdet.MSELoss', loss_weight=0.1),
    ),
    loss_forward_mappings=dict(
        loss_output=dict(
            preds_S=dict(recorder='head', from_student=True),
            preds_T=dict(recorder='head', from_student=False),
        ),
        loss_feature8=dict(
            pred=dict(recorder='stages', from_student=True, data_idx=0, connector='adapt8'),
            target=dict(recorder='stages', from_student=False, data_idx=0),
        ),
        loss_feature16=dict(
            pred=dict(recorder='stages', from_student=True, data_idx=1, connector='adapt16'),
            target=dict(recorder='stages', from_student=False, data_idx=1),
        ),
        loss_feature32=dict(
            pred=dict(recorder='stages', from_student=True, data_idx=2, connector='adapt32'),
            target=dict(recorder='stages', from_student=False, data_idx=2),
        ),
    ),
)
