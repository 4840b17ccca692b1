"""The recorder of a student's own loss."""

from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from mmrazor.models.task_modules.recorder.base_recorder import BaseRecorder
from mmrazor.registry import TASK_UTILS
from torch import Tensor, nn

from mmkd.recorders.head_watch import tapped
from mmkd.recorders.loss_pass import LossPass, StudentCall


@TASK_UTILS.register_module()
class LossPassRecorder(BaseRecorder):
    """Record what a detector's loss works on, as :class:`LossPass` (``type='LossPass'``).

    For any student that computes its loss from features and ground truth: one-stage, two-stage,
    DETR, instance segmentation with boxes.

    Args:
        source (str): must stay '', the detector itself.

    Raises:
        ValueError: at the start, the detector has no head for boxes.

    Example:
        >>> recorders = dict(own=dict(type='LossPass'))  # of the student
    """

    def __init__(self, source: str = '') -> None:
        super().__init__(source)
        self._model: Any = None

    def prepare_from_model(self, model: nn.Module | None = None) -> None:
        """Take the detector.

        Raises:
            ValueError: it has no head for boxes.
        """
        heads = ('roi_head', 'bbox_head', 'rpn_head')
        if not any(getattr(model, name, None) is not None for name in heads):
            raise ValueError(
                f"the recorder 'LossPass' needs a detector with one of {', '.join(heads)}, which "
                f'learns of boxes, but got {type(model).__name__}. Distil its features instead.'
            )
        self._model = model

    def __deepcopy__(self, memo: dict[int, Any]) -> 'LossPassRecorder':
        copied = type(self)(self._source)  # of an algorithm's copy, it watches the copied student
        copied._model = memo.get(id(self._model), self._model)
        copied._initialized = self._initialized
        return copied

    def __enter__(self) -> None:
        super().__enter__()
        self._stack = ExitStack()
        calls: list[StudentCall] = []
        features: list[Any] = []

        def begin(arguments: dict[str, Any], _: Any) -> None:
            inputs, samples, *_ = arguments.values()
            features.clear()
            calls.append(StudentCall(self._model, inputs, samples))

        def end(*_: Any) -> None:
            self._data_buffer.append(LossPass(list(features), calls.pop()))

        enter = self._stack.enter_context
        enter(tapped(self._model, 'loss', after=end, before=begin))
        enter(tapped(self._model, 'extract_feat', after=lambda _, maps: features.append(maps)))

    def tell(self, bare: Tensor | None) -> None:
        """Say which images of what was recorded (B,) have no annotations."""
        self._data_buffer[:] = [replace(one, bare=bare) for one in self._data_buffer]

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._stack.close()
        del self._stack
