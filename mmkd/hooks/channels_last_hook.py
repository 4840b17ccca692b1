"""The student's maps with channels last, which suits convolutions."""

from collections.abc import Mapping
from inspect import signature
from logging import WARNING
from typing import Any

import torch
from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
from mmengine.hooks import EMAHook, Hook
from mmengine.logging import print_log
from mmengine.optim import OptimWrapperDict
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor, nn

from mmkd.datasets.channels import input_channels
from mmkd.distributed.unwrapped import unwrapped
from mmkd.hooks.strided_conv import StridedConv2d
from mmkd.teachers.lean_teacher import TOLERANCE, deviation, each_tensor, feature_maps
from mmkd.teachers.winograd_conv import WinogradConv2d

_SIDE = 320  # of the image that the two layouts are compared on
#: Their gradients need what they read: in place they copy it first, and then write it as well.
_COPYING = nn.SiLU, nn.Mish, nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.Threshold


@HOOKS.register_module()
class ChannelsLastHook(Hook):
    """Train a detector, or the student of a pair, in channels-last memory format.

    Backbone and neck, and a dense head with them, hold weights, gradients and the optimizer's state
    with channels last. Nothing else changes: what leaves these parts has the usual layout
    (other heads and losses may ``view`` it, or call ops that are compiled for that layout), initial
    weights are drawn as ever, and checkpoints have the usual layout, so that a run may be resumed
    with or without this hook.

    On a CPU large strided convolutions then find their weights' gradient in another way, and wide
    ones of 3 x 3 cells all they give, with results that differ by rounding
    (:class:`mmkd.hooks.strided_conv.StridedConv2d`,
    :class:`mmkd.teachers.winograd_conv.WinogradConv2d`), and activations that would copy their
    input to work in place do not, unless a recorder may read that input.

    Before the first step the maps of an image are compared in both layouts. A model in which they
    differ by more than rounding, or that fails, is left as it is, and the log says so.

    It is an option of a run, for a pair and for a detector on its own alike::

        default_hooks = dict(channels_last=dict(type='ChannelsLastHook'))
    """

    priority = 'LOWEST'  # after EMAHook has put its average into a checkpoint

    def __init__(self) -> None:
        self.parts: list[nn.Module] = []

    def before_train(self, runner: Runner) -> None:
        """Change model, averages and optimizer, which have all their values by now."""
        model = unwrapped(runner.model)
        detector = getattr(model, 'student', model)
        names = parts_of(detector)
        reason = channels_last(detector)
        if reason:
            print_log(f'The student stays in the usual layout: {reason}', 'current', WARNING)
            return
        self.parts = [getattr(detector, name) for name in names]
        averages = [unwrapped(h.ema_model).module for h in runner.hooks if isinstance(h, EMAHook)]
        for average in (getattr(average, 'student', average) for average in averages):
            for name in names:
                getattr(average, name).to(memory_format=torch.channels_last)
        wrapper: Any = runner.optim_wrapper
        for one in wrapper.values() if isinstance(wrapper, OptimWrapperDict) else [wrapper]:
            for parameter, state in one.optimizer.state.items():
                _follow(parameter, state)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Save in the usual layout."""
        if self.parts:
            for key in ('state_dict', 'ema_state_dict'):
                for name, value in checkpoint.get(key, {}).items():
                    checkpoint[key][name] = _usual(value)
            for key in ('optimizer', 'gradients'):
                if key in checkpoint:
                    checkpoint[key] = _usual(checkpoint[key])


def parts_of(detector: nn.Module) -> list[str]:
    """The parts that take the layout, in the order in which they run."""
    found = [n for n in ('backbone', 'neck') if isinstance(getattr(detector, n, None), nn.Module)]
    head = getattr(detector, 'bbox_head', None)
    dense = isinstance(head, BaseDenseHead) and len(signature(head.forward).parameters) == 1
    return [*found, 'bbox_head'] if found and dense else found


def channels_last(detector: Any) -> str:
    """Change the layout of a detector and compare; where that fails, change it back and say why."""
    names = parts_of(detector)
    if not names:
        return 'it has no backbone of its own.'
    training = {module: module.training for module in detector.modules()}
    parts = [getattr(detector, name) for name in names]
    in_place = _copying(parts)
    detector.eval()
    try:
        before = _maps(detector)
        for part in parts:
            part.to(memory_format=torch.channels_last)
        for module in in_place:
            module.inplace = False
        worst = max(map(deviation, before, _maps(detector)), default=0.0)
        if worst <= TOLERANCE:
            # Before the recorders' own hooks, so that the maps are copied once for all.
            parts[-1].register_forward_hook(_leave, prepend=True)
            for module in (module for part in parts for module in part.modules()):
                for kind in (StridedConv2d, WinogradConv2d):
                    if kind.suits(module):
                        module.__class__ = kind
            return ''
        reason = f'in the other its maps differ by {worst:.1e} of their largest value.'
    except Exception as error:  # of whatever kind: the model is good without
        reason = f'{type(error).__name__}: {error}'
    finally:
        for module, mode in training.items():
            module.training = mode
    for part in parts:
        part.to(memory_format=torch.contiguous_format)
    for module in in_place:
        module.inplace = True
    return reason


def _copying(parts: list[nn.Module]) -> list[Any]:
    """Activations that copy what they read, if no hook sees whether they write over it."""
    inner = [module for part in parts for module in part.modules() if module is not part]
    if any(module._forward_hooks for module in inner):
        return []
    return [module for module in inner if isinstance(module, _COPYING) and module.inplace]


@torch.no_grad()
def _maps(detector: Any) -> list[Tensor]:
    parameter = next(detector.parameters())
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, input_channels(detector), _SIDE, _SIDE, generator=generator)
    return [maps.float() for maps in feature_maps(detector, image.to(parameter))]


def _leave(_: nn.Module, args: Any, maps: Any) -> Any:
    return each_tensor(maps, Tensor.contiguous)


def _follow(parameter: Tensor, state: Mapping[str, Any]) -> None:
    """Lay the optimizer's state of a parameter out as that is: fused optimizers ask for it."""
    for value in state.values():
        if isinstance(value, Tensor) and value.dim() == 4 and value.shape == parameter.shape:
            value.data = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _usual(value: Any) -> Any:
    """The same with each tensor in the usual layout; what holds them is made anew."""
    if isinstance(value, Tensor):
        return value.contiguous()
    if isinstance(value, dict):
        return {key: _usual(item) for key, item in value.items()}
    return [_usual(item) for item in value] if type(value) is list else value
