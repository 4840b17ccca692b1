"""Recorders beyond MMRazor's."""

from mmkd.recorders.method_inputs_copy_recorder import MethodInputsCopyRecorder
from mmkd.recorders.predictions_recorder import PredictionsRecorder

__all__ = ['MethodInputsCopyRecorder', 'PredictionsRecorder']
