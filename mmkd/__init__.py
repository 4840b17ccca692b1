"""Knowledge distillation for MMDetection detectors."""

from mmkd import compat  # noqa: F401  (first: see its docstring)

__version__ = '0.1.0'
