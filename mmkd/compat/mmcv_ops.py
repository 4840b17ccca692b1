"""Stand-ins for the compiled ops of mmcv, where they are lacking."""

import functools
import importlib
import importlib.abc
import importlib.util
import sys
import types
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from typing import Any

import torch
from torch import Tensor

from mmkd.compat.ops import deform_conv, focal_loss, masked_conv, ms_deform_attn, nms, roi_align
from mmkd.compat.ops.torchvision_op import torchvision_op
from mmkd.compat.packages import build_advice

_STAND_INS = (nms, focal_loss, roi_align, ms_deform_attn, deform_conv, masked_conv)


def supplied_ops() -> dict[str, Callable[..., Any]]:
    """The stand-ins for mmcv's compiled ops, by name."""
    return {name: getattr(module, name) for module in _STAND_INS for name in module.SUPPLIED}


class MmcvExt(types.ModuleType):
    """Stands in for the extension module ``mmcv._ext``."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith('__'):
            raise AttributeError(name)
        return functools.partial(missing_op, name)


def missing_op(name: str, *args: object, **kwargs: object) -> None:
    """Raise, naming the op, what stands in, and how to get the compiled ops."""
    raise NotImplementedError(
        f'The mmcv op "{name}" exists only compiled, and the installed mmcv has no compiled ops '
        f'(mmkd stands in for {", ".join(supplied_ops())}). To get them: {build_advice()}.'
    )


def supply_mmcv_ops() -> None:
    """``mmcv.ops``, which mmdet imports, needs an extension that a compile-free install lacks.

    Where it exists it is left alone, ours not even imported.
    """
    if importlib.util.find_spec('mmcv._ext') is not None:
        try:
            importlib.import_module('mmcv._ext')
        except ImportError as error:
            raise ImportError(
                'The compiled ops of mmcv must have been built with the torch that is installed; '
                f'received torch {torch.__version__} and "{error}". Build them again: '
                f'{build_advice()}.'
            ) from error
        return
    ext = MmcvExt('mmcv._ext')
    ext.__spec__ = ModuleSpec('mmcv._ext', loader=None)  # mmengine calls find_spec on it
    for name, op in supplied_ops().items():
        setattr(ext, name, op)
    sys.modules['mmcv._ext'] = ext


def pool_without_torchvision() -> None:
    """A RoIAlign that asks for torchvision's op, as CrowdDet's, takes mmcv's where that lacks.

    Both compute the same; torchvision is an extra of mmkd (``[fast]``).
    """
    from mmcv.ops import RoIAlign
    from mmcv.ops import roi_align as mmcv_roi_align

    original = RoIAlign.forward

    @functools.wraps(original)
    def forward(self: Any, input: Tensor, rois: Tensor) -> Tensor:
        if not self.use_torchvision or torchvision_op('roi_align', input.device.type):
            return original(self, input, rois)
        settings = self.output_size, self.spatial_scale, self.sampling_ratio, 'avg', self.aligned
        return mmcv_roi_align(input, rois, *settings)

    RoIAlign.forward = forward
