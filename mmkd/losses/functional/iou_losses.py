"""mmdet's IoU losses by name, one value for each pair of boxes."""

from functools import partial

from mmdet.models.losses.iou_loss import ciou_loss, diou_loss, giou_loss, iou_loss

IOU_LOSSES = {
    'iou': partial(iou_loss, mode='linear', reduction='none'),
    'giou': partial(giou_loss, reduction='none'),
    'diou': partial(diou_loss, reduction='none'),
    'ciou': partial(ciou_loss, reduction='none'),
}
