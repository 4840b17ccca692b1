# The student's features pulled to the teacher's where the teacher is sure of any object: no ground
# truth, no classes, no equal heads are needed. The weight of a cell is the highest score of any
# class there (the loss of Ultralytics 8.4: score_imitation_reference.py), over all levels and
# processes; the adapter is one convolution per level.
__method__ = dict(
    teaches="the teacher's features where it is sure of an object",
    needs=['teacher: rows', 'a level in common'],
    source='Ultralytics 8.4 (distillation guide), in the form of Wang et al., CVPR 2019',
)
balance = dict(shares=0.5)
distiller = dict(
    type='ConfigurableDistiller',
    student_recorders=dict(feature=dict(type='ModuleOutputs')),
    teacher_recorders=dict(feature=dict(type='ModuleOutputs'), scores=dict(type='ScoreMaps')),
    connectors=dict(adapter=dict(type='FeatureAdapter')),
    distill_losses=dict(loss_feature=dict(type='FineGrainedImitation')),
    loss_forward_mappings=dict(
        loss_feature=dict(
            preds_S=dict(recorder='feature', from_student=True, connector='adapter'),
            preds_T=dict(recorder='feature', from_student=False),
            mask=dict(recorder='scores', from_student=False),
        )
    ),
)
