"""Recorders beyond MMRazor's."""

from mmkd.recorders.distributions_recorder import DistributionsRecorder
from mmkd.recorders.loss_pass import LossPass
from mmkd.recorders.loss_pass_recorder import LossPassRecorder
from mmkd.recorders.method_inputs_copy_recorder import MethodInputsCopyRecorder
from mmkd.recorders.predictions_recorder import PredictionsRecorder
from mmkd.recorders.queries_recorder import QueriesRecorder
from mmkd.recorders.score_maps_recorder import ScoreMapsRecorder
from mmkd.recorders.towers_recorder import TowersRecorder

__all__ = [
    'DistributionsRecorder',
    'LossPass',
    'LossPassRecorder',
    'MethodInputsCopyRecorder',
    'PredictionsRecorder',
    'QueriesRecorder',
    'ScoreMapsRecorder',
    'TowersRecorder',
]
