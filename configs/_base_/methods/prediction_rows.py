# What the teacher predicts, on the rows of the student: row by row where their priors are equal,
# by overlap of boxes where they are not. Any head teaches any other; the term weighs half of the
# gradient of the student's own losses.
__method__ = dict(
    teaches='soft classes and boxes, row by row or by overlap, weighted by balance',
    needs=['rows', 'equal classes'],
    source='Li et al., NeurIPS 2020 (arXiv 2006.04388)',
    # By overlap; docs/logs/other_heads_tuning.txt.
    lost=[('RetinaHead', 'FCOSHead', -4.1), ('RetinaHead', 'GFLHead', -1.1)],
)
balance = dict(shares=0.5)
distiller = dict(
    type='ConfigurableDistiller',
    student_recorders=dict(predictions=dict(type='Predictions')),
    teacher_recorders=dict(predictions=dict(type='Predictions')),
    distill_losses=dict(loss_rows=dict(type='PredictionRows')),
    loss_forward_mappings=dict(
        loss_rows=dict(
            preds_S=dict(recorder='predictions', from_student=True),
            preds_T=dict(recorder='predictions', from_student=False),
        )
    ),
)
