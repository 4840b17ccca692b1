# Classes and boxes where the teacher sees an object, annotated or not (after Mehta & Ozturk 2018),
# the boxes by GIoU, and fine-grained imitation (Wang et al., CVPR 2019), each held at a share of
# the gradient of the student's own losses.
__method__ = dict(
    teaches='classes, boxes and features where the teacher sees an object, weighted by balance',
    needs=['SSDHead', 'equal classes', 'equal priors', 'equal coder', 'equal levels'],
    source='Mehta & Ozturk 2018; Wang et al., CVPR 2019',
)
_base_ = './ssd_balanced.py'
_base_.distiller.student_recorders.pop('targets')
distiller = dict(
    distill_losses=dict(
        loss_soft=dict(_delete_=True, type='TeacherScaledCls'),
        loss_box=dict(box_loss='giou', score_thr=0.05),
    ),
    loss_forward_mappings=dict(
        loss_soft=dict(
            _delete_=True,
            preds_S=dict(recorder='head', from_student=True, data_idx=0),
            preds_T=dict(recorder='head', from_student=False, data_idx=0),
        ),
    ),
)
