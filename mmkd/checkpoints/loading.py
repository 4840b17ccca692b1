"""How much of a file a model took: counted wherever weights are loaded, and kept with the model."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from logging import WARNING
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from mmkd.checkpoints.foreign import shown
from mmkd.checkpoints.state_keys import (
    STUDENT_PREFIX,
    averaged_twins,
    is_of_quantizer,
    normalisation,
    student_state_dict,
    with_state_dict,
)
from mmkd.checkpoints.weight_meaning import Difference
from mmkd.config.names import first_of
from mmkd.distributed.unwrapped import unwrapped

#: Of a module's keys, the share that a file must hold at least to be of this architecture.
LEAST_SHARE = 0.5


@dataclass(frozen=True)
class Loaded:
    """What a module was loaded with.

    Args:
        what: the config key that named the file.
        path: the file or URL.
        fit: keys of the module whose tensor, of the same shape, the file has.
        total: keys of the module. BatchNorm's counters, of no use to a detector, do not count
            where the file lacks them: they came with PyTorch 0.4.1.
        lacking: keys of the module that the file does not hold.
        meta: what the file says beside its weights.
        differences: where ``meta`` and the model part in what weights rely on.
        strict: whether the file had to fit.
    """

    what: str
    path: str
    fit: int
    total: int
    lacking: tuple[str, ...] = ()
    meta: Mapping[str, Any] = field(default_factory=dict)
    differences: tuple[Difference, ...] = ()
    strict: bool = False

    @property
    def share(self) -> float:
        """``fit`` of ``total``, from 0 to 1."""
        return self.fit / self.total if self.total else 1.0

    def __str__(self) -> str:
        share = f'{self.fit} of {self.total} keys ({self.share:.0%})'
        return f'{self.what}: {share} loaded from {self.path}'


def keep(module: nn.Module, loaded: Loaded) -> None:
    """Note at a module what it was loaded with; what its parts held before is gone."""
    for part in module.modules():
        part.__dict__.pop('loaded_weights', None)
    module.loaded_weights = loaded  # type: ignore[assignment]


def kept(module: nn.Module) -> dict[str, Loaded]:
    """What a module and its parts were loaded with, by the part's path; '' is the whole."""
    found = {name: vars(part).get('loaded_weights') for name, part in module.named_modules()}
    return {name: loaded for name, loaded in found.items() if loaded is not None}


@dataclass(frozen=True)
class Fit:
    """How a module's keys and a file's go together.

    Args:
        fit: keys that both have, in the same shape.
        missing: the module's alone.
        unexpected: the file's alone.
        misshaped: those of both in different shapes, with these.
        total: the module's keys that count; see :class:`Loaded`.
    """

    fit: list[str]
    missing: list[str]
    unexpected: list[str]
    misshaped: dict[str, tuple[tuple[int, ...] | str, tuple[int, ...]]]
    total: int

    @classmethod
    def of(cls, own: Mapping[str, Tensor], weights: Mapping[str, Any]) -> 'Fit':
        """Compare a module's state dict with a file's."""
        shapes = {key: tuple(value.shape) for key, value in own.items()}
        given = {key: _shape(value) for key, value in weights.items()}
        counters = [k for k in own if k.endswith('num_batches_tracked') and k not in weights]
        return cls(
            [key for key in own if given.get(key) == shapes[key]],
            [key for key in own if key not in weights and key not in counters],
            [key for key in weights if key not in own],
            {k: (given[k], shapes[k]) for k in own if k in given and given[k] != shapes[k]},
            len(own) - len(counters),
        )

    def loaded(self, what: str, path: str, **about: Any) -> Loaded:
        """The same as a record."""
        lacking = (*self.missing, *self.misshaped)
        return Loaded(what, path, len(self.fit), self.total, lacking, **about)

    def faults(self) -> list[str]:
        """Keys that do not fit, by kind: the first ones and the count."""
        shaped = [f'{k} (file {a}, model {b})' for k, (a, b) in self.misshaped.items()]
        kinds = (
            ('missing', self.missing),
            ('unexpected', self.unexpected),
            ('of another shape', shaped),
        )
        return [
            f'{len(keys)} {name}: {first_of((shown(key, 200) for key in keys), 3, counted=True)}'
            for name, keys in kinds
            if keys
        ]


def _shape(value: Any) -> tuple[int, ...] | str:
    """A tensor's shape; of what cannot be copied into a weight, what it is."""
    if not isinstance(value, Tensor):
        return type(value).__name__
    for kind, name in (
        (value.layout is not torch.strided, f'a tensor of layout {value.layout}'),
        (value.is_meta, 'a tensor without content'),
        (value.is_quantized, 'a quantized tensor'),
        (value.is_complex(), 'complex numbers'),
    ):
        if kind:
            return name
    return tuple(value.shape)


_source: ContextVar[tuple[str, str] | None] = ContextVar('source', default=None)


@contextmanager
def source(what: str, path: str | None) -> Iterator[None]:
    """Weights that mmengine loads within the block are those of this config key and file."""
    token = _source.set((what, path) if path else None)
    try:
        yield
    finally:
        _source.reset(token)


def count(module: nn.Module, state_dict: Mapping[str, Any]) -> Mapping[str, Any]:
    """Count what fits of a state dict that is about to be loaded without strictness.

    Outside of :func:`source` nothing is done.

    Args:
        module: a detector, a distillation or a part of a detector.
        state_dict: of the file.

    Returns:
        What to load: ``state_dict`` without wrappers around its keys and state that is no weight.

    Raises:
        ValueError: nothing or little fits: less than half of the module's keys, and of a detector
            not even its whole backbone.
    """
    named = _source.get()
    target, prefix = target_of(module)
    # A plain detector's file has nothing for fake quantisers, which is as it should be.
    own = {key: v for key, v in target.state_dict().items() if not is_of_quantizer(key)}
    if named is None or not own:
        return state_dict
    weights = _recognised(state_dict, own)
    fit = Fit.of(own, weights)
    loaded = fit.loaded(*named)
    if not _enough(fit, own):
        raise ValueError(_little(loaded, target, own, state_dict))
    keep(target, loaded)
    print_log('. '.join([str(loaded), *fit.faults()]), 'current')
    if list(weights) == list(state_dict) and not prefix:
        return state_dict
    if prefix and any(key.startswith(prefix) for key in state_dict):
        return state_dict  # a distillation's, with its connectors
    return {prefix + key: value for key, value in weights.items()}


def warn(found: Iterable[Difference], what: str, name: str) -> None:
    """Log differences between a file and the model that it went into."""
    for one in found:
        print_log(f'{what}: {name} has {one}. {one.change.format(model=name)}', 'current', WARNING)


def target_of(module: nn.Module) -> tuple[nn.Module, str]:
    """The detector that is meant, and what stands before its keys: of a pair, the student."""
    module = unwrapped(module)
    student = getattr(module, STUDENT_PREFIX.rstrip('.'), None)
    return (student, STUDENT_PREFIX) if isinstance(student, nn.Module) else (module, '')


def _recognised(state_dict: Mapping[str, Any], own: Mapping[str, Tensor]) -> dict[str, Any]:
    if Fit.of(own, state_dict).missing:
        state_dict = student_state_dict(with_state_dict(state_dict)['state_dict'])
    foreign = {*averaged_twins(state_dict), *normalisation(state_dict, own)} - set(own)
    return {key: value for key, value in state_dict.items() if key not in foreign}


def _enough(fit: Fit, own: Mapping[str, Tensor]) -> bool:
    if len(fit.fit) >= LEAST_SHARE * fit.total:
        return True
    backbone = {key for key in own if key.startswith('backbone.')}
    return bool(backbone) and backbone.isdisjoint((*fit.missing, *fit.misshaped))


def _little(
    loaded: Loaded, module: nn.Module, own: Mapping[str, Tensor], state_dict: Mapping[str, Any]
) -> str:
    whole = ' or its whole backbone' if hasattr(module, 'backbone') else ''
    message = (
        f'{loaded.what} must name a file with weights of this {type(module).__name__}: at least '
        f'half of its keys{whole}; but of "{loaded.path}" {loaded.fit} of {loaded.total} keys fit '
        f'({loaded.share:.0%}). The model has {first_of(own, 2, counted=True)}; the file '
        f'{first_of(state_dict, 2, counted=True)}. '
    )
    parts = [key.split('.') for key in state_dict]
    for prefix in dict.fromkeys('.'.join(key[:n]) + '.' for n in (1, 2) for key in parts):
        below = {k[len(prefix) :]: v for k, v in state_dict.items() if k.startswith(prefix)}
        if below and _enough(Fit.of(own, below), own):
            return message + f"Set prefix='{prefix}' beside the checkpoint."
    return message + 'Name a checkpoint of this architecture.'
