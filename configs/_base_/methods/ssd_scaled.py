# Classes and boxes where the teacher sees an object, annotated or not (after Mehta & Ozturk 2018),
# the boxes by GIoU, and fine-grained imitation (Wang et al., CVPR 2019), each held at a share of
# the gradient of the student's own losses. A pair sets the classes, the head's priors and coder,
# the channels of the adapter and the anchors of the mask.
_base_ = './ssd_balanced.py'
_base_.distiller.student_recorders.pop('targets')
distiller = dict(
    distill_losses=dict(
        loss_soft=dict(_delete_=True, type='TeacherScaledCls', num_classes=20),
        loss_box=dict(box_loss='giou', prior_generator=dict(), bbox_coder=dict(), score_thr=0.05),
    ),
    loss_forward_mappings=dict(
        loss_soft=dict(
            _delete_=True,
            preds_S=dict(recorder='head', from_student=True, data_idx=0),
            preds_T=dict(recorder='head', from_student=False, data_idx=0),
        ),
    ),
)
