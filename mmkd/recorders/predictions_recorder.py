"""The recorder of what a detector predicts."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from mmrazor.models.task_modules.recorder.base_recorder import BaseRecorder
from mmrazor.registry import TASK_UTILS
from torch import Tensor, nn

from mmkd.datasets.data_samples import metas_of
from mmkd.heads.description import PREDICTING, predicting_head
from mmkd.heads.detr import read_detr, read_layer
from mmkd.heads.predictions import Batch, Predictions
from mmkd.heads.readers import find_reader, read
from mmkd.recorders.head_watch import tapped, watch


@TASK_UTILS.register_module()
class PredictionsRecorder(BaseRecorder):
    """Record what a head predicts, as :class:`mmkd.heads.Predictions` (``type='Predictions'``).

    The same for each head and for both models: in the student's loss, in the teacher's forward.
    A record is read when a loss asks for it.

    Args:
        source (str): the head: 'bbox_head', 'roi_head', 'rpn_head' or any module that
            ``mmkd.heads`` can read. Defaults to '', the head that the detector predicts with.
        layers (str): of a DETR, 'last' records the last decoder layer, 'all' a list of all, of
            which ``data_idx`` chooses one. Defaults to 'last'.

    Raises:
        ValueError: an unknown ``layers``; at the start, no such head, or none that can be read.

    Example:
        >>> recorders = dict(predictions=dict(type='Predictions'))  # for student and teacher
    """

    def __init__(self, source: str = '', layers: str = 'last') -> None:
        super().__init__(source)
        self._source: str = source
        if layers not in ('last', 'all'):
            raise ValueError(f"layers must be 'last' or 'all', but got {layers!r}.")
        self.layers = layers
        #: Of the images that the detector sees, by the size of the student's.
        self.scale = 1.0
        self._model: Any = None

    def prepare_from_model(self, model: nn.Module | None = None) -> None:
        """Find the head.

        Raises:
            ValueError: there is none, or it cannot be read.
        """
        self._model = model
        if not self._source:
            self._source = predicting_head(model)[0]
            if not self._source:
                raise ValueError(
                    "the recorder 'Predictions' needs a detector with one of "
                    f'{", ".join(PREDICTING)}, but got {type(model).__name__}. Name its head as '
                    'source.'
                )
        is_detr = find_reader(self._head()) is read_detr
        if self.layers == 'all' and not is_detr:
            raise ValueError(
                f"layers='all' is for DETRs, whose decoder has layers, but {self._source} is "
                f'{type(self._head()).__name__}. Drop it.'
            )

    @property
    def model(self) -> nn.Module | None:
        """Whose head it records; None before it has found one, and of a cached teacher."""
        found: nn.Module | None = self._model
        return found

    def _head(self) -> Any:
        modules = dict(self._model.named_modules())
        if self._source not in modules:
            near = [name for name in modules if name.endswith('head')]
            raise ValueError(
                f'source must be a head of {type(self._model).__name__}, but got '
                f'"{self._source}". Take one of {", ".join(near)}.'
            )
        return modules[self._source]

    def __deepcopy__(self, memo: dict[int, Any]) -> 'PredictionsRecorder':
        # Of an algorithm's copy, it watches the copied student, but the one teacher there is.
        copied = type(self)(self._source, self.layers)
        copied.scale = self.scale
        copied._model = memo.get(id(self._model), self._model)
        copied._initialized = self._initialized
        return copied

    def __enter__(self) -> None:
        super().__enter__()
        if self._model is None:
            return
        self._batches: list[tuple[int, Batch]] = []  # each with the first run of the head on it
        self._stack = ExitStack()
        self._runs = self._stack.enter_context(watch(self._head()))
        depth: list[None] = []  # forward calls extract_feat, which is also called by itself

        def enter(arguments: dict[str, Any], _: Any) -> None:
            if not depth:
                self._batches.append((len(self._runs), self._batch(**arguments)))
            depth.append(None)

        for name in ('forward', 'extract_feat'):
            self._stack.enter_context(
                tapped(self._model, name, after=lambda *_: depth.pop(), before=enter)
            )

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        if self._model is None:
            return
        self._stack.close()
        head = self._head()
        for i, outputs in enumerate(self._runs):
            batch = next((b for first, b in reversed(self._batches) if first <= i), Batch())
            self._data_buffer.append(HeadRun(head, outputs, batch, self.layers))
        del self._stack, self._runs, self._batches

    def _batch(self, *inputs: Any, data_samples: Any = None, **others: Any) -> Batch:
        tensors = [t for t in (*inputs, *others.values()) if isinstance(t, Tensor)]
        shape = (tensors[0].size(-2), tensors[0].size(-1)) if tensors else None
        tokens: list[Any] = [
            getattr(sample, 'token_positive_map', None) for sample in data_samples or ()
        ]
        return Batch(
            shape,
            metas_of(data_samples) or None,
            tokens if tokens and None not in tokens else None,
            getattr(self._model, 'num_queries', None),
        )

    def get_record_data(self, record_idx: int = 0, data_idx: int | None = None) -> Any:
        """The predictions of a run of the head; ``data_idx`` is the layer with layers='all'."""
        found = _read(super().get_record_data(record_idx))
        found = found if data_idx is None else _read(found[data_idx])
        if self.scale == 1:
            return found
        several = isinstance(found, list)
        scaled = [rows.scaled(1 / self.scale) for rows in (found if several else [found])]
        return scaled if several else scaled[0]

    def release(self) -> None:
        """Let the model go: from now on its predictions come from elsewhere, as from a cache."""
        self._model, self.scale = None, 1.0


def records_rows(recorder: Any) -> bool:
    """Whether a recorder's data are predictions; a recorder derived from it may make another."""
    return getattr(type(recorder), 'get_record_data', None) is PredictionsRecorder.get_record_data


def _read(found: Any) -> Any:
    """Of a cache, the runs of layers are a list."""
    if isinstance(found, list):
        return [_read(item) for item in found]
    return found.read() if isinstance(found, HeadRun) else found


@dataclass
class HeadRun:
    """One run of a head, read once, when it is asked for.

    Args:
        head: the head.
        outputs: of its forward.
        batch: the images that it saw.
        layers: as of the recorder.
        grids: runs of another detector, at whose priors alone this one is read if it has them.
        found: what it reads, where that is known.
    """

    head: Any
    outputs: Sequence[Any]
    batch: Batch
    layers: str = 'last'
    grids: Sequence['HeadRun'] = ()
    found: Any = None

    def read(self) -> Predictions | list[Predictions]:
        """The predictions, or those of each layer."""
        if self.found is None and self.layers == 'all':
            count = len(self.outputs[0])
            self.found = [read_layer(self.head, self.outputs, self.batch, i) for i in range(count)]
        elif self.found is None:
            self.found = read(self.head, self.outputs, self.batch)
        if isinstance(self.found, Predictions) and self.found.priors is not None:
            for other in (run.read() for run in self.grids):
                if isinstance(other, Predictions):
                    self.found = self.found.at(other.priors)
            self.grids = ()
        return self.found
