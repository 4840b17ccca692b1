"""The distillation algorithm."""

from mmkd.algorithms.detection_distill import DetectionDistill

__all__ = ['DetectionDistill']
