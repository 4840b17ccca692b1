# The output term of Adlik/yolov5, the reference form of ObjScaledBoxCls: squared differences of raw
# maps, the teacher's objectness as their weight, averaged over all cells. A pair sets the gains
# by that repository's rules, for three levels: cls_weight=0.5 * C / 80 and
# obj_weight=(image size / 640) ** 2.
__method__ = dict(
    teaches='raw outputs as Adlik/yolov5 does, to compare',
    needs=['YOLOv5Head', 'equal classes', 'equal priors'],
    source='Mehta & Ozturk 2018; Adlik/yolov5',
)
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
