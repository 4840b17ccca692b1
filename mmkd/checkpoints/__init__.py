"""Checkpoint files of other programs, read without running what they hold."""

from mmkd.checkpoints.errors import CheckpointError
from mmkd.checkpoints.yolov5_file import YOLOv5File, is_yolov5_file, read_yolov5_file
from mmkd.checkpoints.yolov5_to_mmyolo import convert_yolov5, load_yolov5_state_dict

__all__ = [
    'CheckpointError',
    'YOLOv5File',
    'convert_yolov5',
    'is_yolov5_file',
    'load_yolov5_state_dict',
    'read_yolov5_file',
]
