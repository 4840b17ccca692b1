"""Fake quantisers: values rounded to eight bits, with gradients as if they were not.

Source: Jacob et al., "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", CVPR 2018, by the operators of torch.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.dist import all_reduce
from torch import Tensor, nn

#: Unsigned, of activations; signed and symmetric, of weights.
LEVELS, WEIGHT_LEVELS = 255, 127
_TINY = 1e-12
#: Without a bound, in place of infinity.
UNBOUNDED = (-math.inf, math.inf)


class RangeQuantizer(nn.Module):
    """Rounds a tensor to 256 steps of its range, which is averaged over the batches of training.

    The range is the exponential average of the smallest and largest value of each batch, over all
    processes of a run. It is observed where gradients are computed, whatever the mode of the
    module, since a frozen BatchNorm is in evaluation. For its first ``batches`` batches a tensor
    stays as it is. Range and weight are sums: an average of models averages them rightly.

    Args:
        momentum: share of a new batch in the average.
        batches: how many are looked at before the tensor is rounded.
        limits: of what an activation right behind lets through.
    """

    ranges: Tensor
    seen: Tensor

    def __init__(
        self, momentum: float = 0.01, batches: int = 20, limits: Sequence[float] = UNBOUNDED
    ) -> None:
        super().__init__()
        #: Sums of the smallest and the largest values, and of the weights of the batches.
        self.register_buffer('ranges', torch.zeros(3))
        # How many there were. Their weight, which comes to 1, does not tell of many of them.
        self.register_buffer('seen', torch.tensor(0))
        self.momentum, self.limits, self.batches = momentum, tuple(limits), batches

    def forward(self, values: Tensor) -> Tensor:
        """``values`` of any shape, rounded; the gradient is that of clipping to the range."""
        observed = torch.is_grad_enabled()
        with torch.autocast(values.device.type, enabled=False):
            if observed:
                self._observe(values.detach())
            scale, zero = self._grid()
            rounded = torch.fake_quantize_per_tensor_affine(values.float(), scale, zero, 0, LEVELS)
            ready = self.ranges[2] > 0
            if observed:
                ready = ready & (self.seen >= self.batches)
            return torch.where(ready, rounded.to(values.dtype), values)

    def _observe(self, values: Tensor) -> None:
        if values.numel():
            low, high = torch.aminmax(values.float().clamp(*self.limits))
        else:
            low = high = values.new_zeros((), dtype=torch.float32)
        both = torch.stack([-low, high])
        all_reduce(both, 'max')
        finite = both.isfinite().all()  # else the step is none, as with mixed precision
        both = torch.where(finite, both, 0.0).clamp(min=0)
        new = torch.stack([-both[0], both[1], torch.ones_like(high)])
        share = self.momentum * finite
        self.ranges.copy_(self.ranges + share * (new - self.ranges))
        self.seen.add_(finite)

    def _grid(self) -> tuple[Tensor, Tensor]:
        low, high = self.ranges[:2] / self.ranges[2].clamp(min=_TINY)
        scale = ((high - low) / LEVELS).clamp(min=_TINY)
        return scale, (-low / scale).round().clamp(0, LEVELS).int()

    def fixed(self) -> 'FixedQuantizer':
        """The same with constants; a range that was never observed rounds nothing."""
        scale, zero = self._grid()
        return FixedQuantizer(float(scale), int(zero), bool(self.ranges[2] > 0))


class FixedQuantizer(nn.Module):
    """Rounds a tensor by constants, as a graph holds them."""

    def __init__(self, scale: float, zero: int, known: bool = True) -> None:
        super().__init__()
        self.scale, self.zero, self.known = scale, zero, known

    def forward(self, values: Tensor) -> Tensor:
        """``values`` of any shape, rounded."""
        if not self.known:
            return values
        return torch.fake_quantize_per_tensor_affine(values, self.scale, self.zero, 0, LEVELS)


class WeightQuantizer(nn.Module):
    """Rounds the weights of a convolution to 255 steps of the largest of each output channel.

    A BatchNorm behind only scales the channels, and the steps with them. So what is rounded here is
    what the folded weights are rounded to, whatever the BatchNorm does: it may be in training,
    frozen, averaged over processes, or one of several that share the convolution.
    """

    bits: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer('bits', torch.tensor(8))  # by which a checkpoint tells

    def forward(self, weight: Tensor) -> Tensor:
        """``weight`` (out, in, h, w), rounded; the gradient passes."""
        with torch.autocast(weight.device.type, enabled=False):
            exact = weight.float()
            largest = exact.detach().flatten(1).abs().amax(1)
            scale = largest.clamp(min=_TINY) / WEIGHT_LEVELS
            zero = torch.zeros_like(scale, dtype=torch.int32)
            rounded = torch.fake_quantize_per_channel_affine(
                exact, scale, zero, 0, -WEIGHT_LEVELS, WEIGHT_LEVELS
            )
            return rounded.to(weight.dtype)


class _QuantizedConv:
    """A convolution with a ``weight_quantizer``, and more of them where it has them."""

    def _conv_forward(self, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        parts: dict[str, Any] = self._modules  # type: ignore[attr-defined]
        if 'input_quantizer' in parts:
            inputs = parts['input_quantizer'](inputs)
        weight = parts['weight_quantizer'](weight)
        found: Tensor = super()._conv_forward(inputs, weight, bias)  # type: ignore[misc]
        return parts['output_quantizer'](found) if 'output_quantizer' in parts else found


class _QuantizedNorm:
    """A BatchNorm with an ``output_quantizer``."""

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        found = super().forward(*args, **kwargs)  # type: ignore[misc]
        return self._modules['output_quantizer'](found)  # type: ignore[attr-defined]


_kinds: dict[tuple[type, type], Any] = {}


def _kind(base: type, own: type) -> Any:
    if (base, own) not in _kinds:
        names = {'__module__': base.__module__}
        _kinds[base, own] = type(base.__name__, (own, base), names)
    return _kinds[base, own]


def attach(model: nn.Module) -> None:
    """Let each module that has quantisers use them; again after modules were exchanged.

    The class of a module changes, not the module: its keys, its weights and who refers to it stay.
    """
    for module in model.modules():
        if isinstance(module, _QuantizedConv | _QuantizedNorm):
            continue
        if 'weight_quantizer' in module._modules:
            module.__class__ = _kind(type(module), _QuantizedConv)
        elif 'output_quantizer' in module._modules:
            module.__class__ = _kind(type(module), _QuantizedNorm)
