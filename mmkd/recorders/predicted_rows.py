"""What a detector predicts of a batch, outside of a pair."""

from typing import Any

from torch import Tensor, nn

from mmkd.heads.predictions import Predictions
from mmkd.recorders.predictions_recorder import PredictionsRecorder


def predicted_rows(
    model: nn.Module, inputs: Tensor, data_samples: Any = None, source: str = ''
) -> Predictions:
    """The rows of a detector's head, in the detector's own mode.

    Args:
        model: a detector of mmdet or MMYOLO.
        inputs: its normalised batch (B, C, H, W).
        data_samples: tell where the images lie in it; two-stage detectors and DETRs need them.
        source: the head. Defaults to '', that with which the detector predicts.

    Raises:
        ValueError: there is no such head, or it cannot be read.
    """
    recorder = PredictionsRecorder(source)
    recorder.initialize(model)
    with recorder:
        model(inputs, data_samples, mode='tensor')
    return recorder.get_record_data()
