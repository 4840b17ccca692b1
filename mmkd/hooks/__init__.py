"""Hooks of a training."""

from mmkd.hooks.channels_last_hook import ChannelsLastHook
from mmkd.hooks.distill_weight_hook import DistillWeightHook
from mmkd.hooks.exact_resume_hook import ExactResumeHook
from mmkd.hooks.export_student_hook import ExportStudentHook
from mmkd.hooks.interrupted_validation_hook import InterruptedValidationHook
from mmkd.hooks.lean_teacher_hook import LeanTeacherHook
from mmkd.hooks.non_finite_hook import NonFiniteHook
from mmkd.hooks.pair_report_hook import PairReportHook
from mmkd.hooks.quantize_hook import QuantizeHook

__all__ = [
    'ChannelsLastHook',
    'DistillWeightHook',
    'ExactResumeHook',
    'ExportStudentHook',
    'InterruptedValidationHook',
    'LeanTeacherHook',
    'NonFiniteHook',
    'PairReportHook',
    'QuantizeHook',
]
