"""Objects found by a detector that ``mmkd export --format onnx`` wrote, without torch.

Needs onnxruntime, NumPy and OpenCV alone; it lies beside ``mmkd``, whose import takes torch.

Example::

    from mmkd_onnx import load

    detect = load('student.onnx')
    detect('image.jpg').names
"""

from mmkd_onnx.detections import Detections
from mmkd_onnx.detector import Detector, load
from mmkd_onnx.model_file import ModelFileError

__all__ = ['Detections', 'Detector', 'ModelFileError', 'load']
