"""Distillation losses, one file each.

``forward(preds_S, preds_T, ...)`` takes a map or a list of levels and returns one scalar: the
weighted total, to be back-propagated. Its parts and statistics are left, detached, in the
attribute ``logs`` (a dict of scalars, new at every forward, keys without "loss"), from which the
algorithm logs them. Teacher tensors never receive a gradient; float16 and bfloat16 are computed
in float32.
"""

from mmkd.losses.teacher_bounded_reg import TeacherBoundedReg
from mmkd.losses.weighted_soft_cls import WeightedSoftCls

__all__ = ['TeacherBoundedReg', 'WeightedSoftCls']
