# Output distillation and fine-grained imitation together, each as in its own file.
_base_ = './yolov5_imitation.py'
distiller = dict(
    student_recorders=dict(head=dict(type='ModuleOutputs', source='bbox_head')),
    teacher_recorders=dict(head=dict(type='ModuleOutputs', source='bbox_head')),
    distill_losses=dict(
        loss_output=dict(
            type='ObjScaledBoxCls',
            num_classes=80,
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
