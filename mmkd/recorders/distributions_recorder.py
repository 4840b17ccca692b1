"""The recorder of distributions over the sides of boxes."""

from typing import Any

from mmrazor.registry import TASK_UTILS
from torch import nn

from mmkd.heads.distributions import Distributions, bins_of, giver_of_bins, read_bins
from mmkd.recorders.predictions_recorder import PredictionsRecorder


@TASK_UTILS.register_module()
class DistributionsRecorder(PredictionsRecorder):
    """Record :class:`mmkd.heads.distributions.Distributions` (``type='Distributions'``).

    Of GFL's kin and MMYOLO's YOLOv8, PPYOLOE and YOLOv6, in training and in eval.

    Args:
        source (str): the head. Defaults to '', the one that the detector predicts with.

    Raises:
        ValueError: at the start, a head without distributions.

    Example:
        >>> recorders = dict(sides=dict(type='Distributions'))  # for student and teacher
    """

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
        self._giver = giver_of_bins(self._head())
        if self._giver is not None:
            self._mode = self._giver.training
            self._giver.training = True  # of this module alone: its BatchNorm keep their mode

    def __exit__(self, *error: Any) -> None:
        if self._giver is not None:
            self._giver.training = self._mode
        super().__exit__(*error)

    def get_record_data(self, record_idx: int = 0, data_idx: int | None = None) -> Distributions:
        """The distributions of a run of the head."""
        run: Any = self._data_buffer[record_idx]
        return Distributions(read_bins(run.head, run.outputs), run.read())
