"""A config's schedule, made shorter or longer: ``--epochs``."""

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Any

from mmengine.config import Config
from mmengine.registry import HOOKS, PARAM_SCHEDULERS

from mmkd.config.config_errors import ConfigError
from mmkd.config.registered import registered

#: Of schedulers and hooks: moments and lengths, in epochs or iterations.
_MOMENTS = frozenset(
    (
        *('begin', 'end', 'begin_epoch', 'begin_iter', 'end_epoch', 'end_iter', 'save_begin'),
        *('milestones', 'periods', 'T_max', 'step_size', 'total_steps', 'total_epochs'),
        *('max_epochs', 'max_iters', 'warmup', 'warmup_epochs', 'warmup_iters', 'warm_up_epochs'),
        *('warmup_mim_iter', 'warmup_min_iter', 'warm_iters', 'warmup_steps', 'start_epoch'),
        *('start_iter', 'stop_epoch', 'stop_iter', 'switch_epoch', 'switch_iter', 'ema_start'),
        *('num_last_epochs', 'num_first_epochs', 'initial_epoch', 'val_begin'),
        *('init_iters', 'close_mosaic', 'start_steps'),
    )
)
#: Of checkpoints and validations: at most the length of the training.
_INTERVALS = frozenset(('interval', 'val_interval', 'save_interval'))

#: mmengine's "to the end".
_FOREVER = 10**9


@dataclass
class TrainingLength:
    """How long the detectors of a comparison are trained.

    Args:
        epochs: of the students; None for the config's own.
        factor: by which that changed their training.
        lines: what came of it, see :func:`set_epochs`.
    """

    epochs: int | None = None
    factor: float = 1.0
    lines: list[str] = field(default_factory=list)

    def apply(self, pair: Config) -> None:
        """Set the length of the pair's training."""
        if self.epochs is not None:
            own: Any = (pair.get('train_cfg') or {}).get('max_epochs')
            self.lines += set_epochs(pair, self.epochs)
            self.factor = self.epochs / own

    def apply_to_teacher(self, config: Config) -> None:
        """Train a teacher with a schedule of its own longer or shorter by the same factor."""
        loop = config.get('train_cfg') or {}
        own = loop.get('max_epochs') or loop.get('max_iters')
        if self.factor != 1.0 and own:
            length = max(int(own * self.factor + 0.5), 1)
            changes = scale_schedule(config, length / own, length)
            self.lines += [f'teacher: {change}' for change in changes]


def set_epochs(cfg: Config, epochs: int) -> list[str]:
    """Let a training last ``epochs``, and all that happens in it happen as early in proportion.

    Begins, ends, milestones, ``T_max``, warm-ups, mode switches and starts of an EMA, by epoch or
    by iteration, are multiplied by ``epochs / max_epochs``, rounded, and at least 1; what is 0
    stays 0, and a scheduler ends at least 1 after its begin. So are the defaults of hooks and
    schedulers, which are then written out.
    Intervals of validations and checkpoints are at most the length of the training.

    Args:
        cfg: changed in place; a pair or a detector on its own.
        epochs: how many there are to be.

    Returns:
        What came of it, a line for each value that changed.

    Raises:
        ConfigError: fewer than one epoch, or a training that counts iterations.
    """
    loop = cfg.get('train_cfg') or {}
    own = loop.get('max_epochs')
    if isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 1:
        raise ConfigError(f'--epochs must be a whole number above 0, but got {epochs}. Correct it.')
    if not isinstance(own, int) or own < 1:
        raise ConfigError(
            '--epochs changes trainings that count epochs (train_cfg.max_epochs), but train_cfg '
            f'is {dict(loop)}. Set train_cfg.max_iters by --cfg-options.'
        )
    return scale_schedule(cfg, epochs / own, epochs)


def scale_schedule(cfg: Config, factor: float, length: int) -> list[str]:
    """Multiply each moment of a training by ``factor``, see :func:`set_epochs`.

    Args:
        cfg: changed in place.
        factor: by which all becomes longer or shorter.
        length: the new length of the training, in what its loop counts.
    """
    loop = cfg.get('train_cfg') or {}
    lines: list[str] = []
    parts: list[tuple[str, Any]] = [('train_cfg', loop)]
    for key, registry in (
        ('param_scheduler', PARAM_SCHEDULERS),
        ('default_hooks', HOOKS),
        ('custom_hooks', HOOKS),
    ):
        parts.append((key, cfg.get(key)))
        for _, part in _dicts(cfg.get(key), key):
            if 'type' in part:
                _write_out(part, registered(registry, part, cfg))
    for key, part in parts:
        _scale(part, key, factor, length, lines)
    for path, node in _dicts(cfg.get('model'), 'model'):
        if isinstance(node.get('initial_epoch'), int):  # TOOD's and YOLOv6's change of assigner
            _change(node, 'initial_epoch', path, factor, length, lines)
    return lines


def _scale(node: Any, path: str, factor: float, length: int, lines: list[str]) -> None:
    for where, part in _dicts(node, path):
        by_iteration = part.get('by_epoch') is False
        for key in list(part):
            if key in _MOMENTS or (key == 'dynamic_intervals' and part[key]):
                _change(part, key, where, factor, length, lines)
            elif key in _INTERVALS and not by_iteration and _saves_or_validates(where, part):
                _shorten(part, key, where, length, lines)
            elif key in _INTERVALS and by_iteration and _saves_or_validates(where, part):
                _change(part, key, where, min(factor, 1.0), length, lines)
        if path == 'param_scheduler':
            _keep_room(part, where, lines)


def _keep_room(part: Any, where: str, lines: list[str]) -> None:
    """A scheduler of the end of a long training would end as it begins: mmengine refuses it."""
    begin, end = part.get('begin'), part.get('end')
    if _is_moment(begin) and _is_moment(end) and end <= begin:
        _set(part, 'end', where, begin + 1, lines)


def _write_out(part: Any, kind: Any) -> None:
    """Put the moments that a class has by default into its config."""
    if not inspect.isclass(kind):
        return
    for argument in inspect.signature(kind).parameters.values():
        if argument.name in _MOMENTS and _is_moment(argument.default):
            part.setdefault(argument.name, argument.default)


def _is_moment(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < _FOREVER


def _saves_or_validates(where: str, part: Mapping[str, Any]) -> bool:
    kind = str(getattr(part.get('type'), '__name__', part.get('type')))
    return where == 'train_cfg' or 'Checkpoint' in kind or where.endswith('.checkpoint')


def _change(
    part: Any,
    key: str,
    where: str,
    factor: float,
    length: int,
    lines: list[str],
) -> None:
    old = part[key]
    if key == 'dynamic_intervals':
        new: Any = [(_scaled(at, factor), min(every, length)) for at, every in old]
    elif key == 'periods':  # one after the other: what is rounded must not add up
        ends = [_scaled(end, factor) for end in accumulate(old)]
        new = type(old)(max(end - begin, 1) for begin, end in pairwise([0, *ends]))
    elif isinstance(old, list | tuple):
        new = type(old)(_scaled(value, factor) for value in old)
    else:
        new = _scaled(old, factor)
    _set(part, key, where, new, lines)


def _shorten(part: Any, key: str, where: str, length: int, lines: list[str]) -> None:
    if isinstance(part[key], int) and part[key] > length:
        _set(part, key, where, length, lines)


def _set(part: Any, key: str, where: str, new: Any, lines: list[str]) -> None:
    if new != part[key]:
        lines.append(f'{where}.{key}: {part[key]} -> {new}')
        part[key] = new


def _scaled(value: Any, factor: float) -> Any:
    """A number of epochs or iterations; what is 0, negative or without end stays."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        return value
    if value >= _FOREVER:
        return value
    return max(int(value * factor + 0.5), 1)


def _dicts(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    """The dicts in a part of a config, with their paths; not the pipelines that hooks hold."""
    if isinstance(node, Mapping):
        yield path, node
        for key, value in node.items():
            if 'pipeline' not in str(key):
                yield from _dicts(value, f'{path}.{key}')
    elif isinstance(node, list | tuple):
        for i, value in enumerate(node):
            yield from _dicts(value, f'{path}.{i}')
