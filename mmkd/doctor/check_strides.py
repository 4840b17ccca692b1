"""Strides that a part of a detector states, against the maps that it is given."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from mmkd.doctor.report import Section

#: By so many cells and by this factor a map differs from what its stride says: rounding does less.
_CELLS, _FACTOR = 1.0, 1.4


class Strides:
    """The maps that come to heads and to extractors of regions, with those parts' own strides."""

    def __init__(self) -> None:
        self.found: dict[tuple[str, str], tuple[list[float], list[float]]] = {}

    @contextmanager
    def watch(self, side: str, model: nn.Module) -> Iterator[None]:
        """Look on while a model runs."""
        inputs: list[Sequence[int]] = []

        def see(_: nn.Module, args: tuple[Any, ...]) -> None:
            if args and isinstance(args[0], torch.Tensor):
                inputs[:] = [args[0].shape[-2:]]

        def look(name: str) -> Any:
            def compare(module: nn.Module, args: tuple[Any, ...]) -> None:
                if inputs and args and _are_maps(args[0]):
                    self.compare((side, name), _stated(module), args[0], inputs[0])

            return compare

        backbone = getattr(model, 'backbone', None)
        handles = [backbone.register_forward_pre_hook(see)] if backbone is not None else []
        handles += [
            module.register_forward_pre_hook(look(name))
            for name, module in model.named_modules()
            if _stated(module)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def compare(
        self,
        key: tuple[str, str],
        stated: Sequence[tuple[float, float]],
        maps: Sequence[torch.Tensor],
        pixels: Sequence[int],
    ) -> None:
        """Of each level width and height: cells that the stride asks for, and those that are."""
        wrong, own, real = False, [], []
        for (across, down), one in zip(stated, maps, strict=False):
            for stride, side, cells in zip((down, across), pixels, one.shape[-2:], strict=True):
                wanted = side / stride
                factor = max(wanted / cells, cells / wanted)
                wrong |= abs(wanted - cells) > _CELLS and factor > _FACTOR
            own.append(down)
            real.append(round(pixels[0] / one.shape[-2], 1))
        if wrong:
            self.found[key] = own, real

    def tell(self, section: Section) -> None:
        """Add a finding for each part whose strides are not those of its maps."""
        for (side, name), (stated, real) in self.found.items():
            section.warn(
                f'{name} of the {side} states strides of {_told(stated)}, but its maps have '
                f'{_told(real)}: priors and objects do not meet where the maps see them.',
                'Set strides (prior_generator, anchor_generator, featmap_strides) to those of the '
                'maps, or choose other levels (out_indices of the backbone, start_level of the '
                'neck).',
            )


def _stated(module: nn.Module) -> list[tuple[float, float]]:
    """The strides in x and y that a part states; none of others."""
    found: Any = getattr(getattr(module, 'prior_generator', None), 'strides', None)
    if found is None and hasattr(module, 'roi_layers'):
        found = getattr(module, 'featmap_strides', None)
    pairs = [s if isinstance(s, list | tuple) else (s, s) for s in found or ()]
    return [(float(x), float(y)) for x, y in pairs if x and y]


def _are_maps(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(
        isinstance(one, torch.Tensor) and one.dim() == 4 for one in value
    )


def _told(strides: Sequence[float]) -> str:
    return ', '.join(f'{stride:g}' for stride in strides)
