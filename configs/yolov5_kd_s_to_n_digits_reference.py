"""The digits YOLOv5 pair with the output term as in Adlik/yolov5, to compare with our recipe.

mmkd compare configs/yolov5_kd_s_to_n_digits_reference.py --arms baseline kd
Expected: see docs/results.md.
"""

_base_ = ['./yolov5_n_digits.py', './_base_/methods/yolov5_output_reference.py']
from mmkd.config import pair

_base_.distiller.distill_losses.loss_output.update(
    cls_weight=0.5 * 10 / 80, obj_weight=(128 / 640) ** 2
)
model = pair(
    _base_,
    teacher='{{ fileDirname }}/yolov5_s_digits.py',
    teacher_ckpt='work_dirs/yolov5_s_digits/epoch_8.pth',
)
