# CrossKD (Wang et al., CVPR 2024): the maps inside the student's towers run through the rest of the
# teacher's head, whose predictions from them are compared with its own. Heads without towers:
# cross_head.py. Two GFLs as their code compares them: box_loss='sides' and box_weight=4.0 in the
# loss, and num_pos mapped to the last output of the student's get_targets.
__method__ = dict(
    teaches="what the teacher's head predicts from the student's maps",
    needs=['rows', 'tower', 'equal classes', 'equal levels'],
    source='Wang et al., CVPR 2024 (arXiv 2306.11369)',
    published=[
        ('GFLHead', 'GFLHead', 3.5),
        ('FCOSHead', 'FCOSHead', 2.6),
        ('ATSSHead', 'ATSSHead', 2.4),
        ('RetinaHead', 'RetinaHead', 2.3),
    ],
)
balance = dict(shares=0.5)
distiller = dict(
    type='ConfigurableDistiller',
    student_recorders=dict(towers=dict(type='Towers')),
    teacher_recorders=dict(towers=dict(type='Towers')),
    distill_losses=dict(loss_cross=dict(type='CrossHead')),
    loss_forward_mappings=dict(
        loss_cross=dict(
            preds_S=dict(recorder='towers', from_student=True),
            preds_T=dict(recorder='towers', from_student=False),
        )
    ),
)
