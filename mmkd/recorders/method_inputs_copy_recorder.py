"""Recorders beyond MMRazor's."""

import functools
from collections.abc import Callable
from inspect import signature
from typing import Any

from mmdet.structures.bbox import BaseBoxes
from mmengine.structures import BaseDataElement
from mmrazor.models.task_modules.recorder import MethodInputsRecorder
from mmrazor.registry import TASK_UTILS
from torch import Tensor


@TASK_UTILS.register_module()
class MethodInputsCopyRecorder(MethodInputsRecorder):
    """Record a method's inputs as they were before the call (``type='MethodInputsCopy'``).

    MMRazor's ``MethodInputs`` keeps references, and MMYOLO's ``YOLOv5Head.loss`` overwrites the
    ground-truth boxes in place. Here every tensor is a detached copy, in data samples, dicts and
    lists too; only maps (B, C, H, W) are kept as they are, with their graph, since a copy would
    cost memory and nobody writes into them.

    Args:
        source (str): the method, for example
            'mmyolo.models.dense_heads.yolov5_head.YOLOv5Head.loss'.
    """

    def method_record_wrapper(
        self, method: Callable[..., Any], data_buffer: list[Any]
    ) -> Callable[..., Any]:
        """Wrap the method; the record is a list of its arguments in the order of its signature."""
        names = list(signature(method).parameters)

        @functools.wraps(method)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            inputs = [*args[1:], *(kwargs[name] for name in names if name in kwargs)]
            data_buffer.append(_copy(inputs))
            return method(*args, **kwargs)

        return wrapper


def _copy(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value if value.dim() == 4 else value.detach().clone()
    if isinstance(value, BaseBoxes):
        return value.detach().clone()
    if isinstance(value, BaseDataElement):
        return value.new(**{key: _copy(item) for key, item in value.items()})
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_copy(item) for item in value)
    return value
