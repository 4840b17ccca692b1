"""Knowledge distillation for MMDetection detectors; importing it registers everything."""

from mmkd import compat

compat.apply()  # before anything that imports mmdet or mmrazor

from mmkd import algorithms, connectors, hooks, losses, recorders, runner  # noqa: F401
from mmkd.algorithms import DetectionDistill
from mmkd.hooks import DistillWeightHook, ExportStudentHook, NonFiniteHook, PairReportHook
from mmkd.runner import ExactRunner

__version__ = '0.1.0'

__all__ = [
    'DetectionDistill',
    'DistillWeightHook',
    'ExactRunner',
    'ExportStudentHook',
    'NonFiniteHook',
    'PairReportHook',
    '__version__',
]
