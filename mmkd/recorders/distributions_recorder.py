"""The recorder of distributions over the sides of boxes."""

from typing import Any

from mmrazor.models.task_modules.recorder.base_recorder import BaseRecorder
from mmrazor.registry import TASK_UTILS
from torch import nn

from mmkd.heads.distributions import bins_of, giver_of_bins, read_bins
from mmkd.recorders.predictions_recorder import PredictionsRecorder


@TASK_UTILS.register_module()
class DistributionsRecorder(PredictionsRecorder):
    """Record the distributions that boxes are the means of (``type='Distributions'``).

    A record is a tensor (B, P, 4, n): logits of n distances, in strides, to the left, top, right
    and bottom, in the order of the head's rows. Of GFL's kin and MMYOLO's YOLOv8, PPYOLOE and
    YOLOv6, in training and in eval.

    Args:
        source (str): the head. Defaults to '', the one that the detector predicts with.

    Raises:
        ValueError: at the start, a head without distributions.

    Example:
        >>> recorders = dict(sides=dict(type='Distributions'))  # for student and teacher
    """

    get_record_data = BaseRecorder.get_record_data

    def __init__(self, source: str = '') -> None:
        super().__init__(source)

    def prepare_from_model(self, model: nn.Module | None = None) -> None:
        """Find the head.

        Raises:
            ValueError: it predicts no distributions.
        """
        super().prepare_from_model(model)
        if not bins_of(self._head()):
            raise ValueError(
                "the recorder 'Distributions' needs a head whose boxes are means of distributions "
                '(GFL, YOLOv8, PPYOLOE), but '
                f'{self._source} is {type(self._head()).__name__}. Take another method.'
            )

    def __deepcopy__(self, memo: dict[int, Any]) -> 'DistributionsRecorder':
        copied = type(self)(self._source)
        copied._model = memo.get(id(self._model), self._model)
        copied._initialized = self._initialized
        return copied

    def __enter__(self) -> None:
        super().__enter__()
        if self._model is None:
            return
        self._giver = giver_of_bins(self._head())
        if self._giver is not None:
            self._mode = self._giver.training
            self._giver.training = True  # of this module alone: its BatchNorm keep their mode

    def __exit__(self, *error: Any) -> None:
        if self._model is None:
            super().__exit__(*error)
            return
        if self._giver is not None:
            self._giver.training = self._mode
        super().__exit__(*error)
        self._data_buffer[:] = [read_bins(run.head, run.outputs) for run in self._data_buffer]
