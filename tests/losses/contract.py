"""What the contract test needs to know about a loss, and how to reshape its inputs."""

from collections.abc import Callable
from dataclasses import dataclass, field, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

Inputs = dict[str, Any]  # the keyword arguments of forward


@dataclass(frozen=True)
class LossCase:
    """How to build a loss, feed it, and what it promises.

    ``build(**overrides)`` builds it; ``inputs(seed)`` makes float32 inputs for two images;
    ``empty()`` makes inputs without any object (None: the loss knows no objects).
    ``non_negative`` holds the overrides under which the loss is at least 0.
    ``doubled`` is the factor by which the loss grows when the batch is repeated, as its
    docstring's Units say. ``faults`` are (inputs -> faulty inputs, the error's text).
    """

    build: Callable[..., nn.Module]
    inputs: Callable[[int], Inputs]
    empty: Callable[[], Inputs] | None
    faults: tuple[tuple[Callable[[Inputs], Inputs], str], ...]
    zero_at_equal: bool = True
    non_negative: dict[str, Any] = field(default_factory=dict)
    doubled: float = 1.0
    log_keys: tuple[str, ...] = ()


def apply(value: Any, fn: Callable[[Tensor], Tensor]) -> Any:
    """``fn`` on every tensor of a nested structure; the rest as it is."""
    if isinstance(value, Tensor):
        return fn(value)
    if isinstance(value, dict):
        return {key: apply(item, fn) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(apply(item, fn) for item in value)
    if is_dataclass(value):
        return replace(value, **apply(vars(value), fn))
    return value


def tensors(value: Any) -> list[Tensor]:
    """Every tensor of a nested structure."""
    found: list[Tensor] = []
    apply(value, lambda t: found.append(t) or t)
    return found


def floats(fn: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """``fn`` on floating-point tensors only."""
    return lambda t: fn(t) if t.is_floating_point() else t


def repeat(value: Any) -> Any:
    """The same batch twice; counts are doubled."""
    if isinstance(value, Tensor):
        return torch.cat([value, value]) if value.dim() else value * 2
    if isinstance(value, dict):
        return {key: repeat(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(repeat(item) for item in value)
    if is_dataclass(value):
        return replace(value, **repeat(vars(value)))
    return value * 2 if isinstance(value, int | float) else value


def with_grad(inputs: Inputs) -> Inputs:
    """Fresh leaves for student and teacher, all of which ask for a gradient."""
    leaf = floats(lambda t: t.detach().clone().requires_grad_())
    return inputs | {key: apply(inputs[key], leaf) for key in ('preds_S', 'preds_T')}


def shape_faults(wrong_shape: str, not_maps: str) -> tuple:
    """Faults that every loss on maps must refuse."""

    def drop_level(inputs: Inputs) -> Inputs:
        return inputs | {'preds_T': apply_top(inputs['preds_T'], lambda levels: levels[:-1])}

    def drop_channel(inputs: Inputs) -> Inputs:
        return inputs | {'preds_T': apply(inputs['preds_T'], lambda t: t[:, :-1])}

    def crop(inputs: Inputs) -> Inputs:
        return inputs | {'preds_T': apply(inputs['preds_T'], lambda t: t[..., :-1])}

    def text(inputs: Inputs) -> Inputs:
        return inputs | {'preds_S': 'maps'}

    def rows(inputs: Inputs) -> Inputs:
        return inputs | {'preds_S': apply(inputs['preds_S'], lambda t: t.flatten(1))}

    return (
        (drop_level, wrong_shape),
        (drop_channel, wrong_shape),
        (crop, wrong_shape),
        (text, not_maps),
        (rows, not_maps),
    )


def apply_top(preds: Any, fn: Callable[[list], list]) -> Any:
    """``fn`` on each list of levels: ``preds`` itself, or each item of a tuple of lists."""
    if isinstance(preds, tuple):
        return tuple(fn(levels) for levels in preds)
    return fn(preds)
