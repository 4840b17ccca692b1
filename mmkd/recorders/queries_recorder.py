"""The recorder of all decoder layers of a DETR."""

from dataclasses import dataclass
from typing import Any

from mmrazor.registry import TASK_UTILS
from torch import Tensor

from mmkd.heads.predictions import Predictions
from mmkd.recorders.predictions_recorder import PredictionsRecorder


@dataclass(frozen=True)
class QueryRun:
    """One run of a DETR's head.

    Args:
        layers: the predictions of each decoder layer, the last the detector's own.
        sizes: (B, 4), width and height of each image, twice.
    """

    layers: list[Predictions]
    sizes: Tensor


@TASK_UTILS.register_module()
class QueriesRecorder(PredictionsRecorder):
    """Record the decoder layers of a DETR with the images' sizes (``type='Queries'``).

    Args:
        source (str): the head. Defaults to '', the one that the detector predicts with.

    Raises:
        ValueError: at the start, the head is not a DETR's.

    Example:
        >>> recorders = dict(queries=dict(type='Queries'))  # of the student
    """

    def __init__(self, source: str = '') -> None:
        super().__init__(source, 'all')

    def __deepcopy__(self, memo: dict[int, Any]) -> 'QueriesRecorder':
        copied = type(self)(self._source)
        copied._model = memo.get(id(self._model), self._model)
        copied._initialized = self._initialized
        return copied

    def get_record_data(self, record_idx: int = 0, data_idx: int | None = None) -> QueryRun:
        """The layers of a run of the head."""
        run: Any = self._data_buffer[record_idx]
        layers = run.read()
        return QueryRun(layers, run.batch.sizes(layers[-1].boxes, type(run.head).__name__))
