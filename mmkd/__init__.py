"""Knowledge distillation for MMDetection detectors."""

from mmkd import compat

compat.apply()  # before anything that imports mmdet or mmrazor

__version__ = '0.1.0'

from mmkd import connectors, losses, recorders  # noqa: F401
from mmkd.algorithm import DetectionDistill
from mmkd.export import ExportStudentHook

__all__ = ['DetectionDistill', 'ExportStudentHook', '__version__']
