"""Knowledge distillation for MMDetection detectors; importing it registers everything."""

from mmkd import compat

compat.apply()  # before anything that imports mmdet or mmrazor

from mmkd import amp, connectors, heads, losses, recorders  # noqa: F401
from mmkd.algorithm import DetectionDistill
from mmkd.distill_weights import DistillWeightHook
from mmkd.doctor import PairReportHook
from mmkd.export import ExportStudentHook
from mmkd.non_finite import NonFiniteHook
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
