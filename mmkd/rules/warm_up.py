"""How much of a training its warm-up takes."""

from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.config import Config

#: A warm-up of this share of the run or more leaves too little of it.
MOST = 1 / 3

#: Schedulers that raise a rate from ``start_factor`` to 1, and how low that is by default.
_RAISE = {'LinearLR': 1 / 3, 'ConstantLR': 1 / 3, 'QuadraticWarmupLR': 0.0}


def long_warm_ups(cfg: Config, per_epoch: int) -> list[str]:
    """The warm-ups that take a third of a training or more, a line each.

    Args:
        cfg: of the run.
        per_epoch: iterations in an epoch.
    """
    loop = cfg.get('train_cfg') or {}
    epochs, iterations = loop.get('max_epochs'), loop.get('max_iters')
    total = epochs * per_epoch if epochs else iterations
    if not isinstance(total, int) or total < 1:
        return []
    return [
        f'{where} warms up for {length:g} of the {total} iterations. Shorten it (end), or train '
        'longer.'
        for where, length in _warm_ups(cfg, per_epoch)
        if min(length, total) >= MOST * total and length > 1  # one iteration is none
    ]


def _warm_ups(cfg: Config, per_epoch: int) -> Iterator[tuple[str, float]]:
    for where, part in _listed('param_scheduler', cfg.get('param_scheduler')):
        kind = _kind(part)
        if kind in _RAISE and part.get('start_factor', part.get('factor', _RAISE[kind])) < 1:
            if kind == 'LinearLR' and part.get('end_factor', 1.0) < 1:
                continue  # it falls
            begin, end = part.get('begin', 0), part.get('end')
            if isinstance(end, int) and not begin:
                yield where, end * (per_epoch if part.get('by_epoch', True) else 1)
    hooks = [
        *_listed('default_hooks', cfg.get('default_hooks')),
        *_listed('custom_hooks', cfg.get('custom_hooks')),
    ]
    for where, part in hooks:
        if _kind(part) == 'YOLOv5ParamSchedulerHook':
            least, own = part.get('warmup_mim_iter', 1000), part.get('warmup_epochs', 3)
            yield where, max(own * per_epoch, least)
        elif _kind(part) == 'PPYOLOEParamSchedulerHook':
            least, own = part.get('warmup_min_iter', 1000), part.get('warmup_epochs', 5)
            yield where, max(own * per_epoch, least)


def _kind(part: Mapping[str, Any]) -> str:
    kind = part.get('type')
    return str(getattr(kind, '__name__', kind)).rpartition('.')[2]


def _listed(where: str, found: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if isinstance(found, Mapping) and 'type' not in found:
        found = found.items()
    elif isinstance(found, Mapping):
        found = [(0, found)]
    else:
        found = enumerate(found or ())
    for key, part in found:
        if isinstance(part, Mapping):
            yield f'{where}.{key}', part
