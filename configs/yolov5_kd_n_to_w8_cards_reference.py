"""The cards YOLOv5 pair with the output term as in Adlik/yolov5, to compare with our recipe.

mmkd compare configs/yolov5_kd_n_to_w8_cards_reference.py --arms baseline kd
Expected: see docs/results.md.
"""

_base_ = ['./yolov5_w8_cards.py', './_base_/methods/yolov5_output_reference.py']
from mmkd.config import pair

_base_.distiller.distill_losses.loss_output.update(
    cls_weight=0.5 * 6 / 80, obj_weight=(160 / 640) ** 2
)
model = pair(
    _base_,
    teacher='{{ fileDirname }}/yolov5_n_cards.py',
    teacher_ckpt='work_dirs/yolov5_n_cards/epoch_100.pth',
)
