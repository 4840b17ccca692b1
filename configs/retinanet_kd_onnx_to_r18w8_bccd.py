"""An ONNX file teaches a RetinaNet of width 8 on BCCD, of which a quarter has labels.

mmkd train configs/retinanet_r18w32_bccd_quarter.py
mmkd export work_dirs/retinanet_r18w32_bccd_quarter/epoch_130.pth --format onnx --nms \
    --out work_dirs/bccd_quarter.onnx
mmkd train configs/retinanet_kd_onnx_to_r18w8_bccd.py
Expected: see docs/any_teacher.md; the baseline is configs/retinanet_r18w8_bccd_quarter.py.
"""

_base_ = './retinanet_kd_results_to_r18w8_bccd.py'
model = dict(teacher='work_dirs/bccd_quarter.onnx')
