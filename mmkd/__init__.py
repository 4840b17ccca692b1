"""Knowledge distillation for MMDetection detectors; importing it registers everything."""

import sys

if sys.argv[:1] == ['-m'] and sys.orig_argv[-len(sys.argv) - 1 :][:2] == ['-m', 'mmkd']:
    # Python is locating ``python -m mmkd``: --help and wrong words are answered before all is here.
    from mmkd_cli.main import main

    if status := main(run=False):
        sys.exit(status)

from mmkd import compat

compat.apply()  # before anything that imports mmdet or mmrazor

from mmkd import algorithms, connectors, hooks, losses, recorders, runner  # noqa: F401
from mmkd.algorithms import DetectionDistill
from mmkd.hooks import DistillWeightHook, ExportStudentHook, NonFiniteHook, PairReportHook
from mmkd.predict.load import load
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
    'load',
]
