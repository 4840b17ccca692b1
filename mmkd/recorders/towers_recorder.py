"""The recorder of the towers of a dense head."""

import functools
from contextlib import ExitStack
from typing import Any

from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
from mmrazor.registry import TASK_UTILS
from torch import Tensor, nn

from mmkd.heads.towers import TOWERS, HeadAtWork, TowerRun, before_activation, towers
from mmkd.recorders.head_watch import tapped
from mmkd.recorders.predictions_recorder import PredictionsRecorder


@TASK_UTILS.register_module()
class TowersRecorder(PredictionsRecorder):
    """Record the maps inside the towers of a dense head (``type='Towers'``).

    The record is a :class:`mmkd.heads.towers.TowerRun`: maps, predictions, and the head itself, so
    that a loss can run what follows in it. It is never cached.

    Args:
        source (str): the head. Defaults to '', the one that the detector predicts with.
        depth (int, optional): after which convolution of the towers; 0 for none. Defaults to None,
            the last but one, or the only one.

    Raises:
        ValueError: at the start, no head that can be read, or no towers that are deep enough; at
            depth 0, one that is not dense.

    Example:
        >>> recorders = dict(towers=dict(type='Towers'))  # for student and teacher
    """

    #: Why no cache can keep the record.
    uncached = "the teacher's head itself, which runs on the student's maps"

    def __init__(self, source: str = '', depth: int | None = None) -> None:
        super().__init__(source)
        self.depth = depth

    def prepare_from_model(self, model: nn.Module | None = None) -> None:
        """Find the head and its towers.

        Raises:
            ValueError: there are none, or they are not deep enough; or the head is not dense.
        """
        super().prepare_from_model(model)
        head = self._head()
        if self.depth == 0:
            if not isinstance(head, BaseDenseHead):
                raise ValueError(
                    "the recorder 'Towers' needs a dense head, which predicts from maps alone, but "
                    f'{self._source} is {type(head).__name__}. Take another teacher, or a method '
                    'that compares predictions (prediction_rows, soft_ground_truth).'
                )
            return
        shortest = min(min(map(len, towers(head, name)), default=0) for name in TOWERS)
        depth = max(shortest - 1, 1) if self.depth is None else self.depth
        if not 1 <= depth <= shortest:
            raise ValueError(
                f'depth must be that of a convolution of both towers ({", ".join(TOWERS)}) of '
                f'{self._source}, but got {self.depth}, and those of {type(head).__name__} have '
                f'{shortest}. Give another depth, or take the method cross_head, which needs none.'
            )
        self.depth = depth

    def __deepcopy__(self, memo: dict[int, Any]) -> 'TowersRecorder':
        copied = type(self)(self._source, self.depth)
        copied._model = memo.get(id(self._model), self._model)
        copied._initialized = self._initialized
        return copied

    def __enter__(self) -> None:
        super().__enter__()
        self._maps: dict[str, list[Tensor]] = {name: [] for name in TOWERS if self.depth}
        self._inner = ExitStack()
        for name, kept in self._maps.items():
            for tower in towers(self._head(), name):
                inner = before_activation(tower[self.depth - 1])  # type: ignore[operator]
                keep = functools.partial(_keep, kept)
                self._inner.enter_context(tapped(inner, 'forward', after=keep))

    def __exit__(self, *error: Any) -> None:
        self._inner.close()
        super().__exit__(*error)
        self._data_buffer[:] = [
            _Inside([list(levels) for levels in self._maps.values()], run, self.depth or 0)
            for run in self._data_buffer[-1:]
        ]
        del self._inner, self._maps

    def get_record_data(self, record_idx: int = 0, data_idx: int | None = None) -> TowerRun:
        """The latest run of the head."""
        return self._data_buffer[record_idx].read()


class _Inside:
    """A run of the head with the maps inside it, read when it is asked for."""

    def __init__(self, maps: list[list[Tensor]], run: Any, depth: int) -> None:
        self.maps, self.run, self.depth = maps, run, depth

    def read(self) -> TowerRun:
        at_work = HeadAtWork(self.run.head, self.run.batch, self.depth)
        return TowerRun(self.maps, self.run.read(), at_work, self.run.outputs)


def _keep(kept: list[Tensor], _: dict[str, Any], maps: Tensor) -> None:
    kept.append(maps.clone())  # an activation in place would change it
