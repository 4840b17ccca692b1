# Objectness-scaled output distillation (Mehta & Ozturk 2018), corrected form, for YOLOv5 heads of
# equal classes, anchors and strides. MMYOLO multiplies its own terms by the images of all
# processes; loss_weight does so too: 0.5 per image, here for 8 x 16 images.
# Reference forms, with cls_weight=0.5 * C / 80 * 3 / levels, box_weight=0.05 * 3 / levels and
# obj_weight=(image size / 640) ** 2 * 3 / levels:
#   Raychen: normalizer="mean", box_loss="l2", cls_loss="kl", temperature=5, loss_weight=0.5 * B
#   Adlik:   yolov5_output_reference.py
__method__ = dict(
    teaches='classes, objectness and boxes, by fixed weights',
    needs=['YOLOv5Head', 'equal classes', 'equal priors'],
    source='Mehta & Ozturk 2018',
)
distiller = dict(
    type='ConfigurableDistiller',
    student_recorders=dict(head=dict(type='ModuleOutputs', source='bbox_head')),
    teacher_recorders=dict(head=dict(type='ModuleOutputs', source='bbox_head')),
    distill_losses=dict(
        loss_output=dict(
            type='ObjScaledBoxCls',
            level_weights=[4.0, 1.0, 0.4],
            loss_weight=0.5 * 8 * 16,
        )
    ),
    loss_forward_mappings=dict(
        loss_output=dict(
            preds_S=dict(recorder='head', from_student=True),
            preds_T=dict(recorder='head', from_student=False),
        )
    ),
)
