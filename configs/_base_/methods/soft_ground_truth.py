# The student's own loss once more, with the teacher's detections for ground truth, each drawn in as
# many steps as the teacher is sure of it. For every student that learns of boxes, whatever its
# head: its own heads and assigner work on the features that there are. Terms of masks are left out.
__method__ = dict(
    teaches="the teacher's detections as soft ground truth of the student's own loss",
    needs=['teacher: rows', 'equal classes'],
    source='pseudo-labels (Xu et al., ICCV 2021, arXiv 2106.09018)',
)
balance = dict(shares=0.5)
distiller = dict(
    type='ConfigurableDistiller',
    student_recorders=dict(own=dict(type='LossPass')),
    teacher_recorders=dict(rows=dict(type='Predictions')),
    distill_losses=dict(loss_taught=dict(type='SoftGroundTruth')),
    loss_forward_mappings=dict(
        loss_taught=dict(
            preds_S=dict(recorder='own', from_student=True),
            preds_T=dict(recorder='rows', from_student=False),
        )
    ),
)
