"""The recorder of how sure a detector is, cell by cell."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import torch
from mmrazor.models.task_modules.recorder.base_recorder import BaseRecorder
from mmrazor.registry import TASK_UTILS
from torch import Tensor

from mmkd.geometry.multi_level_maps import as_levels
from mmkd.heads.score_maps import score_maps
from mmkd.recorders.head_watch import tapped
from mmkd.recorders.predictions_recorder import PredictionsRecorder


@TASK_UTILS.register_module()
class ScoreMapsRecorder(PredictionsRecorder):
    """Record a detector's highest score at each cell of its features (``type='ScoreMaps'``).

    A record is a list over the levels that ``extract_feat`` returns, each (B, 1, H, W), from 0 to
    1, of any class: :func:`mmkd.heads.score_maps.score_maps`. Without a graph.

    Args:
        source (str): the head, as of :class:`PredictionsRecorder`. Defaults to ''.
        score_thr (float): lower scores count as 0. Defaults to 0.0.
        classes (list[int], optional): of which the scores count. Defaults to None, of all; in a
            pair, of those of the teacher's that are classes of the student.

    Raises:
        ValueError: ``score_thr`` is out of range; ``classes`` are none; at the start, no head that
            can be read.
    """

    get_record_data = BaseRecorder.get_record_data

    def __init__(
        self, source: str = '', score_thr: float = 0.0, classes: Sequence[int] | None = None
    ) -> None:
        super().__init__(source)
        if not 0 <= score_thr < 1:
            raise ValueError(f'score_thr must be at least 0 and below 1, but got {score_thr}.')
        if classes is not None and not classes:
            raise ValueError('classes must name at least one class, but got none. Leave it out.')
        self.score_thr = score_thr
        self.classes = classes

    def __deepcopy__(self, memo: dict[int, Any]) -> 'ScoreMapsRecorder':
        copied = type(self)(self._source, self.score_thr, self.classes)
        copied._model = memo.get(id(self._model), self._model)
        copied._initialized = self._initialized
        return copied

    def __enter__(self) -> None:
        super().__enter__()
        if self._model is None:
            return
        self._features: list[tuple[Any, Any]] = []  # the images' (H, W) and the levels' sizes

        def keep(arguments: dict[str, Any], maps: Any) -> None:
            images = next(v for v in arguments.values() if isinstance(v, Tensor))
            sizes = [tuple(level.shape[-2:]) for level in as_levels(maps, 'extract_feat')]
            self._features.append((tuple(images.shape[-2:]), sizes))

        self._sizes = ExitStack()
        self._sizes.enter_context(tapped(self._model, 'extract_feat', after=keep))

    @torch.no_grad()
    def __exit__(self, *error: Any) -> None:
        if self._model is None:
            super().__exit__(*error)
            return
        self._sizes.close()
        super().__exit__(*error)
        for i, run in enumerate(self._data_buffer):
            shape, sizes = self._features[min(i, len(self._features) - 1)]
            rows = run.read()
            if self.classes is not None:
                rows = replace(rows, log_prob=rows.log_prob[..., self.classes])
            maps = score_maps(rows, sizes, shape)
            self._data_buffer[i] = [m * (m >= self.score_thr) for m in maps]
        del self._sizes, self._features
