"""YOLOv5n teaches one of half its width on playing cards: classes, boxes and features.

mmkd train configs/yolov5_kd_n_to_w8_cards.py
Expected: see docs/results.md; the baseline is configs/yolov5_w8_cards.py.
"""

_base_ = ['./yolov5_w8_cards.py', './_base_/methods/yolov5_balanced.py']
from mmkd.config import pair

model = pair(
    _base_,
    teacher='{{ fileDirname }}/yolov5_n_cards.py',
    teacher_ckpt='work_dirs/yolov5_n_cards/epoch_100.pth',
    balance=dict(shares=1.0),  # docs/logs/cards_yolov5_tuning.txt
)
