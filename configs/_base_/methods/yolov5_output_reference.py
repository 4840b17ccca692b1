# The output term of Adlik/yolov5, the reference form of ObjScaledBoxCls: squared differences of raw
# maps, the teacher's objectness as their weight, averaged over all cells. A pair sets num_classes
# and the gains by that repository's rules, for three levels: cls_weight=0.5 * C / 80 and
# obj_weight=(image size / 640) ** 2.
_base_ = './yolov5_output.py'
distiller = dict(
    distill_losses=dict(
        loss_output=dict(
            normalizer='mean',
            box_loss='l2',
            cls_loss='l2',
            box_weight=0.05,
            level_weights=None,
            loss_weight=10.0,
        )
    )
)
