"""Distillation losses, one file each.

``forward(preds_S, preds_T, ...)`` takes a map or a list of levels and returns one scalar: the
weighted total, to be back-propagated. Its parts and statistics are left, detached, in the
attribute ``logs`` (a dict of scalars, new at every forward, keys without "loss"), from which the
algorithm logs them. Teacher tensors never receive a gradient; float16 and bfloat16 are computed
in float32. ``needs_equal`` names what student and teacher must have in common (see
:mod:`mmkd.rules`); ``teacher_reads`` names the codec in which a teacher cache may keep an argument
(see :mod:`mmkd.cache.codecs`).
"""

from mmkd.losses.fine_grained_imitation import FineGrainedImitation
from mmkd.losses.obj_scaled_box_cls import ObjScaledBoxCls
from mmkd.losses.prediction_rows import PredictionRows
from mmkd.losses.teacher_bounded_reg import TeacherBoundedReg
from mmkd.losses.teacher_scaled_cls import TeacherScaledCls
from mmkd.losses.teacher_scaled_reg import TeacherScaledReg
from mmkd.losses.weighted_soft_cls import WeightedSoftCls

__all__ = [
    'FineGrainedImitation',
    'ObjScaledBoxCls',
    'PredictionRows',
    'TeacherBoundedReg',
    'TeacherScaledCls',
    'TeacherScaledReg',
    'WeightedSoftCls',
]
