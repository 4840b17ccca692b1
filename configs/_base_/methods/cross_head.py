# CrossKD for heads without towers (SSD, YOLOv3, YOLOv5, YOLOv8, ...), or of other kinds: the
# student's features, adapted, run through the whole of the teacher's head. Gains are not published.
__method__ = dict(
    teaches="what the teacher's head predicts from the student's features",
    needs=['teacher: dense', 'teacher: priors', 'equal classes', 'a level in common'],
    source='Wang et al., CVPR 2024 (arXiv 2306.11369), from the first layer on',
)
balance = dict(shares=0.5)
distiller = dict(
    type='ConfigurableDistiller',
    student_recorders=dict(feature=dict(type='ModuleOutputs')),
    teacher_recorders=dict(feature=dict(type='ModuleOutputs'), head=dict(type='Towers', depth=0)),
    connectors=dict(adapter=dict(type='FeatureAdapter')),
    distill_losses=dict(loss_cross=dict(type='CrossHead')),
    loss_forward_mappings=dict(
        loss_cross=dict(
            preds_S=dict(recorder='feature', from_student=True, connector='adapter'),
            preds_T=dict(recorder='feature', from_student=False),
            head_T=dict(recorder='head', from_student=False),
        )
    ),
)
