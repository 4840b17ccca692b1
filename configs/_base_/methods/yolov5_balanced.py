# The recipe of the small YOLOv5 pairs (docs/results.md): the teacher's classes and objectness, its
# boxes by CIoU (Mehta & Ozturk 2018), and fine-grained imitation (Wang et al., CVPR 2019), each
# with half the gradient of the student's own losses.
__method__ = dict(
    teaches='classes, objectness, boxes and imitated features, weighted by balance',
    needs=['YOLOv5Head', 'equal classes', 'equal priors'],
    source='Mehta & Ozturk 2018; Wang et al., CVPR 2019',
)
_base_ = './yolov5_imitation.py'
balance = dict(shares=0.5)
head = dict(
    preds_S=dict(recorder='head', from_student=True),
    preds_T=dict(recorder='head', from_student=False),
)
distiller = dict(
    student_recorders=dict(head=dict(type='ModuleOutputs', source='bbox_head')),
    teacher_recorders=dict(head=dict(type='ModuleOutputs', source='bbox_head')),
    distill_losses=dict(
        loss_output=dict(type='ObjScaledBoxCls', box_weight=0.0, level_weights=[4.0, 1.0, 0.4]),
        loss_box=dict(
            type='ObjScaledBoxCls',
            box_loss='ciou',
            box_weight=1.0,
            cls_weight=0.0,
            obj_weight=0.0,
        ),
    ),
    loss_forward_mappings=dict(loss_output=head, loss_box=head),
)
