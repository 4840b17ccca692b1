# Localisation distillation (Zheng et al., CVPR 2022), divided by what the teacher sees: the
# distributions of the sides of boxes, of heads that predict such (GFL, YOLOv8, PPYOLOE) with equal
# reg_max. SideDistributions says how it is fed as published, in the regions around objects. It
# teaches boxes alone: bckd.py or prediction_rows.py teach classes, too.
__method__ = dict(
    teaches='how sure the teacher is of each side of its boxes',
    needs=['rows', 'DFL', 'equal priors', 'equal bins'],
    source='Zheng et al., CVPR 2022 (arXiv 2102.12252)',
)
balance = dict(shares=0.5)
distiller = dict(
    type='ConfigurableDistiller',
    student_recorders=dict(sides=dict(type='Distributions')),
    teacher_recorders=dict(sides=dict(type='Distributions'), rows=dict(type='Predictions')),
    distill_losses=dict(loss_sides=dict(type='SideDistributions')),
    loss_forward_mappings=dict(
        loss_sides=dict(
            preds_S=dict(recorder='sides', from_student=True),
            preds_T=dict(recorder='sides', from_student=False),
            rows_T=dict(recorder='rows', from_student=False),
        )
    ),
)
