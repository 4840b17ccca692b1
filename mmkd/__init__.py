"""Knowledge distillation for MMDetection detectors."""

from mmkd import compat  # noqa: F401  (first: see its docstring)

__version__ = '0.1.0'

from mmkd import losses  # noqa: F401
from mmkd.algorithm import DetectionDistill
from mmkd.export import ExportStudentHook

__all__ = ['DetectionDistill', 'ExportStudentHook', '__version__']
