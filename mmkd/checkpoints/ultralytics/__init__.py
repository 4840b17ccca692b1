"""Ultralytics YOLOv5 checkpoints: read without running what they hold, converted for MMYOLO."""

from mmkd.checkpoints.ultralytics.errors import CheckpointError
from mmkd.checkpoints.ultralytics.to_mmyolo import convert_yolov5, load_yolov5_state_dict
from mmkd.checkpoints.ultralytics.yolov5_file import YOLOv5File, is_yolov5_file, read_yolov5_file

__all__ = [
    'CheckpointError',
    'YOLOv5File',
    'convert_yolov5',
    'is_yolov5_file',
    'load_yolov5_state_dict',
    'read_yolov5_file',
]
