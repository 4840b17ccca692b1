"""A detector with fake quantisers: how they come in, and what a file keeps of them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmkd.checkpoints.detector_checkpoint import read_checkpoint
from mmkd.checkpoints.reader import find_checkpoint
from mmkd.checkpoints.state_keys import is_of_quantizer, student_state_dict
from mmkd.checkpoints.ultralytics import is_yolov5_file
from mmkd.config.names import first_of
from mmkd.quantization.fake_quantizers import (
    FixedQuantizer,
    RangeQuantizer,
    WeightQuantizer,
    attach,
)
from mmkd.quantization.sites import find_sites

#: Where a student's file keeps what its fake quantisers have learned.
KEY = 'quantization'


@dataclass(frozen=True)
class Quantize:
    """What ``quantize=dict(...)`` says of quantisation-aware training.

    Args:
        batches (int): of the training, while activations are only looked at. Defaults to 20.
        momentum (float): share of a batch in the average of the ranges. Defaults to 0.01.
        predictors (bool): whether the last convolutions of the head, which give scores and boxes,
            are quantised, too. Defaults to False: they cost most and gain least.
        leave_out (Sequence[str]): names of modules that stay in float with all that is below, for
            example ``['backbone.conv1']``. Defaults to none.
        freeze_norm (bool): whether the statistics of BatchNorm stand still, as is usual when a
            trained student is fine-tuned for some epochs. Defaults to False.

    Raises:
        ValueError: a value that is none.
    """

    batches: int = 20
    momentum: float = 0.01
    predictors: bool = False
    leave_out: Sequence[str] = ()
    freeze_norm: bool = False

    def __post_init__(self) -> None:
        if type(self.batches) is not int or self.batches < 0:
            raise ValueError(
                f'quantize.batches must be a number of batches, 0 or more, but got '
                f'{self.batches!r}. Leave it out for 20.'
            )
        number = isinstance(self.momentum, float | int) and not isinstance(self.momentum, bool)
        if not number or not 0 < self.momentum <= 1:
            raise ValueError(
                f'quantize.momentum must be above 0 and at most 1, but got {self.momentum!r}. '
                'Leave it out for 0.01.'
            )
        for key in ('predictors', 'freeze_norm'):
            if not isinstance(getattr(self, key), bool):
                raise ValueError(
                    f'quantize.{key} must be True or False, but got {getattr(self, key)!r}. '
                    'Correct it.'
                )
        names = self.leave_out
        listed = isinstance(names, Collection) and not isinstance(names, str | Mapping)
        if not listed or not all(isinstance(name, str) for name in names):
            raise ValueError(
                f'quantize.leave_out must be a list of names of modules, but got {names!r}. '
                "Write leave_out=['backbone.conv1']."
            )

    @classmethod
    def of(cls, setting: Any) -> 'Quantize | None':
        """What a config's ``quantize`` says; None if it says nothing.

        Raises:
            ValueError: it is no dict of these arguments.
        """
        if setting is None or isinstance(setting, cls):
            return setting
        known = list(cls.__dataclass_fields__)
        if not isinstance(setting, Mapping) or not set(setting) <= set(known):
            got = setting if not isinstance(setting, Mapping) else first_of(set(setting) - {*known})
            raise ValueError(
                f'quantize must be a dict with any of {", ".join(known)}, but got {got}. '
                'Write quantize=dict() for the defaults.'
            )
        return cls(**setting)


def quantize(model: Any, settings: Quantize) -> None:
    """Put fake quantisers into a detector, each a part of the module whose values it rounds.

    Weights keep their keys, and the model is otherwise as it was.

    Raises:
        ValueError: nothing is left to quantise, or a name of ``leave_out`` is of nothing.
    """
    _check_names(model, settings)
    below = {m for name in settings.leave_out for m in model.get_submodule(name).modules()}

    def left_out(name: str, predicts: bool) -> bool:
        return (predicts and not settings.predictors) or model.get_submodule(name) in below

    sites = find_sites(model, left_out)
    if not sites.convolutions:
        raise ValueError(
            f'quantize needs a student with convolutions, but of {type(model).__name__} none is '
            'left. Name less in quantize.leave_out, or leave quantize out.'
        )
    arguments: dict[str, Any] = dict(momentum=settings.momentum, batches=settings.batches)
    for name, reads in sites.convolutions.items():
        parts: dict[str, nn.Module] = dict(weight_quantizer=WeightQuantizer())
        if reads:
            parts['input_quantizer'] = RangeQuantizer(**arguments)
        _add(model, name, parts)
    for name, limits in sites.outputs.items():
        _add(model, name, dict(output_quantizer=RangeQuantizer(**arguments, limits=limits)))
    attach(model)
    in_float = sum(isinstance(m, nn.Conv2d) for m in model.modules()) - len(sites.convolutions)
    print_log(
        f'quantize: {len(sites.convolutions)} convolutions compute in eight bits, {in_float} in '
        f'float{_predictors(sites.predictors, settings)}',
        'current',
    )


def _predictors(names: set[str], settings: Quantize) -> str:
    if settings.predictors or not names:
        return ''
    return f', among them those that predict: {first_of(sorted(names), 3, counted=True)}'


def _check_names(model: nn.Module, settings: Quantize) -> None:
    known = {name for name, _ in model.named_modules(remove_duplicate=False)}
    unknown = sorted(set(settings.leave_out) - known)
    if unknown:
        raise ValueError(
            f'quantize.leave_out must name modules of the student, but it has no '
            f'{first_of(unknown)}. It has {first_of(sorted(known - {""}), 5)}.'
        )


def _add(model: nn.Module, name: str, parts: Mapping[str, nn.Module]) -> None:
    owner = model.get_submodule(name)
    like = next(owner.parameters())
    for key, part in parts.items():
        owner.add_module(key, part.to(like.device))


def quantize_again(model: Any, settings: Quantize | None) -> None:
    """Keep a model quantised whose layers or modes may have been changed since."""
    if settings is not None:
        attach(model)  # a run may have exchanged each BatchNorm for another
        if settings.freeze_norm:
            stand_still(model)


def stand_still(model: nn.Module) -> None:
    """Keep the statistics of each BatchNorm as they are; its weights still learn."""
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.training = False


def is_quantized(model: nn.Module) -> bool:
    """Whether a detector has fake quantisers."""
    return any(is_of_quantizer(key) for key in model.state_dict())


def split_ranges(weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A detector's own weights, and what its fake quantisers have learned."""
    own = {key: value for key, value in weights.items() if not is_of_quantizer(key)}
    return own, {key: value for key, value in weights.items() if is_of_quantizer(key)}


def ranges_in(path: str) -> dict[str, Tensor]:
    """What the fake quantisers of a checkpoint's student have learned; nothing if it had none.

    Args:
        path: a file or a URL.
    """
    file = find_checkpoint(path, 'checkpoint')
    return {} if is_yolov5_file(file) else learned_ranges(read_checkpoint(str(file)))


def learned_ranges(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """The same of what was read.

    Args:
        checkpoint: of a training, or a student with its ``quantization``.
    """
    kept = checkpoint.get(KEY)
    if isinstance(kept, Mapping):
        return split_ranges(kept)[1]
    return split_ranges(student_state_dict(checkpoint['state_dict']))[1]


def restore(model: Any, ranges: Mapping[str, Tensor]) -> None:
    """Put fake quantisers into a detector as they were when ``ranges`` were kept.

    Raises:
        ValueError: the ranges are of another detector.
    """
    modules = dict(model.named_modules(remove_duplicate=False))  # levels may share convolutions
    faults = [key for key, value in ranges.items() if not _fits(modules, key, value)]
    if faults:
        raise ValueError(
            'the ranges of a quantised student must be of its own convolutions and BatchNorms, but '
            f'{type(model).__name__} has nothing for {first_of(faults, 2)}. Give the checkpoint of '
            'this config.'
        )
    for name in dict.fromkeys(key.rsplit('.', 1)[0] for key in ranges):
        owner, _, part = name.rpartition('.')
        if part not in modules[owner]._modules:
            kind = WeightQuantizer if part == 'weight_quantizer' else RangeQuantizer
            _add(model, owner, {part: kind()})
    attach(model)
    model.load_state_dict(ranges, strict=False)


def _fits(modules: Mapping[str, nn.Module], key: str, value: Any) -> bool:
    """Whether a module is there that a kept range can be of."""
    name, part, buffer = key.rsplit('.', 2)
    if part == 'weight_quantizer':
        return isinstance(modules.get(name), nn.Conv2d) and buffer == 'bits' and value.numel() == 1
    kinds = (nn.Conv2d, _BatchNorm) if part == 'output_quantizer' else (nn.Conv2d,)
    shape = dict(ranges=(3,), seen=()).get(buffer)
    return isinstance(modules.get(name), kinds) and tuple(value.shape) == shape


@torch.no_grad()
def fix(model: nn.Module) -> None:
    """Round the weights of a quantised detector for good, and let its ranges be constants."""
    for module in list(model.modules()):
        for name, part in list(module._modules.items()):
            if isinstance(part, WeightQuantizer) and isinstance(module, nn.Conv2d):
                module.weight.copy_(part(module.weight))
                module._modules[name] = nn.Identity()
            elif isinstance(part, RangeQuantizer):
                module._modules[name] = part.fixed()


def rounds_nothing(model: nn.Module) -> bool:
    """Whether a fixed detector has no range that was ever observed."""
    fixed = [module for module in model.modules() if isinstance(module, FixedQuantizer)]
    return not any(module.known for module in fixed)
