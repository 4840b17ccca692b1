"""Knowledge distillation for MMDetection detectors."""

from mmkd import compat

compat.apply()  # before anything that imports mmdet or mmrazor

__version__ = '0.1.0'
