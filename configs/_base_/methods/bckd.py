# BCKD (Yang et al., ICCV 2023): each row weighed by how far the student's scores are from the
# teacher's, for sigmoid heads of equal priors. The positives of the student's assigner take the
# place of the teacher's scores in the divisor where num_pos is mapped to the head's targets.
__method__ = dict(
    teaches='classes and boxes of the rows where student and teacher disagree',
    needs=['rows', 'priors', 'sigmoid', 'equal classes', 'equal priors'],
    source='Yang et al., ICCV 2023 (arXiv 2308.14286)',
    published=[('GFLHead', 'GFLHead', 3.0)],
)
balance = dict(shares=0.5)
distiller = dict(
    type='ConfigurableDistiller',
    student_recorders=dict(rows=dict(type='Predictions')),
    teacher_recorders=dict(rows=dict(type='Predictions')),
    distill_losses=dict(loss_rows=dict(type='DisagreementRows')),
    loss_forward_mappings=dict(
        loss_rows=dict(
            preds_S=dict(recorder='rows', from_student=True),
            preds_T=dict(recorder='rows', from_student=False),
        )
    ),
)
