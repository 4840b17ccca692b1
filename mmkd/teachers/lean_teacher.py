"""Ways to run the teacher for less: its weights are fixed and it never needs a gradient."""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from mmcv.cnn import fuse_conv_bn
from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmkd.datasets.channels import input_channels
from mmkd.teachers.winograd_conv import WinogradConv2d

#: The value of ``lean_teacher`` that lets a run choose.
AUTO = 'auto'
#: The arguments that leave a teacher as it is.
EXACT: dict[str, Any] = dict(fold_bn=False, channels_last=False)
_DTYPES = {'bfloat16': torch.bfloat16, 'float16': torch.float16}
TOLERANCE = 1e-3  # of the features' largest value; rounding alone stays below 1e-5


@dataclass(frozen=True)
class LeanTeacher:
    """How a frozen teacher is run; the defaults change its maps by rounding alone.

    Args:
        fold_bn (bool): Fold each BatchNorm into the convolution before it. Defaults to True.
        channels_last (bool): Lay images and maps out with channels last, which suits
            convolutions on CPUs and on GPUs with tensor cores. On a CPU those of 3 x 3 cells and
            many channels then need fewer multiplications, and memory for their weights in another
            form (:class:`mmkd.teachers.winograd_conv.WinogradConv2d`). Defaults to True.
        dtype (str, optional): 'bfloat16' or 'float16': of backbone and neck; the head stays in
            float32, so that its logits do. Defaults to None, float32 throughout.
        compile (bool): ``torch.compile`` backbone and neck. Takes a minute at the first step, and
            a C++ compiler. Defaults to False.

    Raises:
        ValueError: an unknown dtype.
    """

    fold_bn: bool = True
    channels_last: bool = True
    dtype: str | None = None
    compile: bool = False

    def __post_init__(self) -> None:
        if self.dtype is not None and self.dtype not in _DTYPES:
            raise ValueError(
                f'lean_teacher.dtype must be {" or ".join(map(repr, _DTYPES))} or None, got '
                f'{self.dtype!r}.'
            )

    @classmethod
    def of(cls, setting: Mapping[str, Any] | str | None) -> 'LeanTeacher':
        """What a pair's ``lean_teacher`` says.

        Raises:
            FileNotFoundError, ValueError, TypeError: it is no file of a form, or no arguments.
        """
        if setting is None or setting == AUTO:
            return cls(**EXACT)
        if isinstance(setting, str):
            if not setting.endswith('.json'):
                raise ValueError(
                    f"lean_teacher must be 'auto', arguments of LeanTeacher or None, but got "
                    f"'{setting}'. Write lean_teacher='auto' or lean_teacher=dict()."
                )
            if not Path(setting).is_file():
                raise FileNotFoundError(
                    f'lean_teacher must be a file in which a form was kept, but there is no '
                    f'"{setting}". Correct the path, or write lean_teacher=\'auto\'.'
                )
            return cls(**json.loads(Path(setting).read_bytes()))
        return cls(**setting)

    @torch.no_grad()
    def prepare(self, model: Any, tapped: Iterable[str]) -> None:
        """Change a detector in eval mode for good.

        Args:
            model: the detector.
            tapped: dotted names of the modules and parameters that recorders read.

        Raises:
            ValueError: a recorder reads what folding or compiling would change, or BatchNorm
                does not follow its convolution in this model, so that folding is wrong.
        """
        tapped = set(tapped)
        if self.fold_bn:
            _fold(model, tapped)
        if self.channels_last:
            model.to(memory_format=torch.channels_last)
            for module in model.modules():
                if WinogradConv2d.suits(module):
                    module.__class__ = WinogradConv2d
        if self.dtype:
            _reduce(model, _DTYPES[self.dtype])
        if self.compile:
            _compile(model, tapped)

    def layout(self, inputs: Tensor) -> Tensor:
        """The batch (B, C, H, W) in the layout of the model."""
        return (
            inputs.contiguous(memory_format=torch.channels_last) if self.channels_last else inputs
        )


def is_open(setting: Any) -> bool:
    """Whether a run is to choose the form: 'auto', and the environment does not say 'exact'."""
    return setting == AUTO and os.environ.get('MMKD_LEAN_TEACHER') != 'exact'


def plain_records(recorders: Any) -> None:
    """Lay recorded maps out as usual: losses of MMRazor ``view`` them, which asks for that."""
    for recorder in recorders.recorders.values():
        recorder.data_buffer[:] = each_tensor(recorder.data_buffer, Tensor.contiguous)


def each_tensor(maps: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """``maps`` with each tensor in its lists and tuples changed; anything else stays."""
    if type(maps) in (list, tuple):
        return type(maps)(each_tensor(item, change) for item in maps)
    return change(maps) if isinstance(maps, Tensor) else maps


def _fold(model: Any, tapped: set[str]) -> None:
    modules = dict(model.named_modules())
    if not any(isinstance(module, _BatchNorm) for module in modules.values()):
        return
    owners = {name: modules.get(name) or modules.get(name.rpartition('.')[0]) for name in tapped}
    weights = {name: getattr(owner, 'weight', None) for name, owner in owners.items()}
    parameter = next(model.parameters())
    with torch.random.fork_rng(devices=[]):
        image = torch.randn(1, input_channels(model), 64, 64).to(parameter)
    before = feature_maps(model, image)
    for part in model.children():
        if not _shares_convolutions(part):  # each of the BatchNorms would be folded into one
            fuse_conv_bn(part)
    model.requires_grad_(False)
    left = {*model.modules()}
    for name, owner in owners.items():
        if owner is not None and (
            owner not in left or getattr(owner, 'weight', None) is not weights[name]
        ):
            raise ValueError(
                f'a teacher recorder reads "{name}", which folding BatchNorm changes. Record the '
                'output of the block around it, or set lean_teacher.fold_bn=False.'
            )
    for old, new in zip(before, feature_maps(model, image), strict=True):
        error = deviation(old, new)
        if not error <= TOLERANCE:
            raise ValueError(
                f"folding BatchNorm changes the teacher's maps by {error:.1e} of their largest "
                'value: in this model it does not directly follow its convolution. Set '
                'lean_teacher.fold_bn=False.'
            )


def _shares_convolutions(part: nn.Module) -> bool:
    """Whether levels share convolutions, each with a BatchNorm of its own, as in RTMDet's head."""
    named = part.named_modules(remove_duplicate=False)
    convs = [module for _, module in named if isinstance(module, nn.Conv2d)]
    return len(convs) > len({*convs})


def _reduce(model: Any, dtype: torch.dtype) -> None:
    modules = [getattr(model, part, None) for part in ('backbone', 'neck')]
    parts = [module for module in modules if isinstance(module, nn.Module)]
    for part in parts:
        part.to(dtype)
    parts[0].register_forward_pre_hook(lambda _, args: (args[0].to(dtype), *args[1:]))
    parts[-1].register_forward_hook(lambda _, args, maps: each_tensor(maps, Tensor.float))


def deviation(old: Tensor, new: Tensor) -> float:
    """The largest difference of two maps, by the largest value of the first."""
    return float((old - new).abs().max() / old.abs().max().clamp(min=1e-12))


def feature_maps(model: Any, image: Tensor) -> list[Tensor]:
    """The features, and what a head makes of them that takes nothing else."""
    features = model.extract_feat(image)
    outputs = [features]
    for head in (getattr(model, name, None) for name in ('bbox_head', 'rpn_head')):
        if isinstance(head, BaseDenseHead) and len(signature(head.forward).parameters) == 1:
            outputs.append(head(features))
    maps: list[Tensor] = []
    each_tensor(outputs, lambda found: maps.append(found) or found)  # type: ignore[func-returns-value]
    return maps


def _compile(model: Any, tapped: set[str]) -> None:
    for part in ('backbone', 'neck'):
        inside = sorted(name for name in tapped if name.startswith(part + '.'))
        if inside:
            raise ValueError(
                f'a teacher recorder reads "{inside[0]}" inside the compiled {part}. Record the '
                f"{part}'s output, or set lean_teacher.compile=False."
            )
        module = getattr(model, part, None)
        if isinstance(module, nn.Module):
            # The forward alone: recorders hook the module's call around it.
            module.forward = torch.compile(module.forward)
