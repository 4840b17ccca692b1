"""Errors that name the key of the config that they come from."""

import dis
import errno
import inspect
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import Registry, root

from mmkd.config.key_finder import RUNNER_KEYS, KeyFinder, Path, dotted, value_at
from mmkd.config.names import nearest
from mmkd.errors import ImageError, NonFiniteError


class ConfigError(ValueError):
    """A config that a run cannot be built from; the first line names the key."""


class ConfigFileNotFoundError(ConfigError, FileNotFoundError):
    """A key that names a file or folder which is not there."""


_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

#: The keys that hold a dict, or None.
DICTS = (
    *('model', 'optim_wrapper', 'default_hooks', 'env_cfg', 'randomness'),
    *(f'{phase}_{part}' for phase in ('train', 'val', 'test') for part in ('dataloader', 'cfg')),
)


@contextmanager
def config_errors(cfg: Config) -> Iterator[None]:
    """Turn an error in the building or running of ``cfg`` into one that names the key.

    What is not about the config passes as it is: a lack of memory or disk, a broken image, a loss
    that is not finite, an error of mmkd's own that names no key.

    Raises:
        ConfigError: something in the block failed; the error itself is its ``__cause__``.
    """
    try:
        _check_sections(cfg)
        yield
    except (ConfigError, ImageError, NonFiniteError, MemoryError, torch.cuda.OutOfMemoryError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _DISK_FULL:
            raise
        message = explain(error, cfg.to_dict())
        if message is None:
            raise
        missing = isinstance(error, FileNotFoundError)
        raise (ConfigFileNotFoundError if missing else ConfigError)(message) from error


def message_last(kind: type, error: BaseException, trace: TracebackType | None) -> None:
    """An ``excepthook``: what mmkd raised on purpose is told last, where a terminal ends."""
    if not isinstance(error, ConfigError) and not _is_own(error):
        sys.__excepthook__(kind, error, trace)
        return
    cause = error.__cause__
    if isinstance(error, ConfigError) and cause is not None and not _is_own(cause):
        traceback.print_exception(cause)
        print(file=sys.stderr)
    print(f'mmkd: {error}', file=sys.stderr)


def _check_sections(cfg: Config) -> None:
    for key in DICTS:
        if not isinstance(cfg.get(key), Mapping | None):
            raise ConfigError(f'{key} must be a dict or None, but got {_short(cfg[key])}.')
    for key in ('max_epochs', 'max_iters'):
        number = (cfg.get('train_cfg') or {}).get(key, 1)
        if not isinstance(number, int) or number < 1:
            raise ConfigError(f'train_cfg.{key} must be a whole number above 0, but got {number}.')


def explain(error: Exception, config: Mapping[str, Any]) -> str | None:
    """What is wrong with which key, in one paragraph; None if no key is found."""
    finder = KeyFinder(config)
    path, text = finder.find(error), _text(error)
    if _is_own(error):
        return _of_own(text, path, config, finder)
    path = path or _top_level(text, config)
    for rule in (_unknown_argument, _missing_argument, _unknown_type, _missing_key):
        message = rule(error, text, path, config, finder)
        if message:
            return message
    path = _mentioned(text, path, config, finder)
    if not path:
        return None
    return (
        f'{dotted(path)} must be something that the run can be built from and run with, but got '
        f'{_short(value_at(config, path) if path in finder.paths else None)}, and '
        f'{type(error).__name__} came of it: {text.rstrip(".")}.'
        f'{_fed_by(path, config)}'
    )


def _of_own(text: str, path: Path, config: Mapping[str, Any], finder: KeyFinder) -> str | None:
    """The message of an error of mmkd, which tells all but where in the config its keys are."""
    start = re.match(r'[\w.]*\w', text)
    parts = tuple(start[0].split('.')) if start else ()
    key = finder.resolve('.'.join(parts), path)
    apart = key[: len(path)] != path and path[: len(key)] != key
    if parts and key[-len(parts) :] == parts and (len(parts) > 1 or not apart or len(path) < 3):
        return dotted(key) + text[len(start[0]) :]  # type: ignore[index]
    return f'{dotted(path)}: {text}{_fed_by(path, config)}' if path else None


def _unknown_argument(
    error: Exception, text: str, path: Path, config: Mapping[str, Any], finder: KeyFinder
) -> str | None:
    found = re.search(r"(\S+) got an unexpected keyword argument '(\w+)'", text)
    if not found:
        return None
    called, name = found.groups()
    path = (*path, name) if (*path, name) in finder.paths else finder.resolve(name, path) or path
    near = _near(name, _arguments(called.split('.')[0]))
    return f'{dotted(path)} must be an argument of {called}, but got "{name}". {near}'


def _missing_argument(
    error: Exception, text: str, path: Path, config: Mapping[str, Any], finder: KeyFinder
) -> str | None:
    found = re.search(r'(\S+) missing \d+ required .*argument', text)
    if not found or not path:
        return None
    names = re.findall(r"'(\w+)'", text[found.end() :])
    return (
        f'{dotted(path)} must give {found[1]} its argument {" and ".join(names)}, but got '
        f'{_short(value_at(config, path))}. Add {dotted((*path, names[0]))}.'
    )


def _unknown_type(
    error: Exception, text: str, path: Path, config: Mapping[str, Any], finder: KeyFinder
) -> str | None:
    found = re.search(r'(\S+) is not in the (\S+) registry', text)
    if found:
        name, (scope, _, kind) = found[1].strip('\'"'), found[2].partition('::')
        node = value_at(config, path)
        if not (isinstance(node, Mapping) and str(node.get('type')).startswith(name)):
            path = finder.of_type(name, path) or path
        names = [n for r in _registries() if r.name == kind for n in r.module_dict]
        note = f' (looked for in "{scope}": see _scope_ and default_scope)'
    elif re.search(
        r'None(Type)?\b.* callable', text
    ):  # some look a name up without asking if found
        names, note = [n for r in _registries() for n in r.module_dict], ''
        lost = [(p, v) for p, v in finder.entries if p[: len(path)] == path and p[-1] == 'type']
        lost = [(p, v) for p, v in lost if str(v).split('.')[-1] not in names]
        if len(lost) != 1:
            return None
        (*path, _), name = lost[0]  # type: ignore[assignment]
    else:
        return None
    return (
        f'{dotted((*path, "type"))} must be registered, but got "{name}"{note}. '
        f'{_near(name, sorted(set(names)))}'
    )


def _missing_key(
    error: Exception, text: str, path: Path, config: Mapping[str, Any], finder: KeyFinder
) -> str | None:
    if not path or not isinstance(error, KeyError | AttributeError):
        return None
    found = re.fullmatch(r"'?(\w+)'?", text) or re.search(r'must contain the key \"(\w+)\"', text)
    found = found or re.search(r"'ConfigDict' object has no attribute '(\w+)'", text)
    if not found or (*path, found[1]) in finder.paths:
        return None
    if found[1] in ('inputs', 'data_samples'):  # what a model's preprocessor takes from a batch
        path = finder.resolve('dataset.pipeline', ('train_cfg',)) or ('train_dataloader',)
        return (
            f'{dotted(path)} must end with PackDetInputs, but a batch lacks "{found[1]}". Add it.'
        )
    node = value_at(config, path)
    return f'{dotted(path)} must have "{found[1]}", but got {_short(node)}. Add it.'


def _top_level(text: str, config: Mapping[str, Any]) -> Path:
    """The first of the runner's keys that a message names, or rather of those that are lacking."""
    named = [word for word in re.findall(r'\w+', text) if word in RUNNER_KEYS]
    return tuple([key for key in named if config.get(key) is None][:1] or named[:1])


def _mentioned(text: str, path: Path, config: Mapping[str, Any], finder: KeyFinder) -> Path:
    """``path``, or one step deeper if the message names exactly one of its keys."""
    node = value_at(config, path) if path in finder.paths else None
    words = set(re.findall(r'\w+', text))
    if isinstance(node, Mapping):
        inner = [key for key in node if key in words and key not in ('type', 'model')]
        return (*path, inner[0]) if len(inner) == 1 else path
    return path


def _fed_by(path: Path, config: Mapping[str, Any]) -> str:
    """Where a distillation loss gets its arguments, since the fault may lie there."""
    if path[:3] != ('model', 'distiller', 'distill_losses') or len(path) < 4:
        return ''
    fed = value_at(config, path[:2]).get('loss_forward_mappings', {}).get(path[3], {})
    records = [
        f'{argument} by {"student" if record.get("from_student") else "teacher"}_recorders.'
        + '.'.join(str(value) for key, value in record.items() if key != 'from_student')
        for argument, record in fed.items()
    ]
    return f' loss_forward_mappings.{path[3]} feeds it: {", ".join(records)}.' if records else ''


def _text(error: BaseException) -> str:
    """The error's message in one line; of an error from a loader's worker, its end.

    One of mmkd stays whole: it tells the rule, what was received and the remedy.
    """
    text = str(error).strip()
    if 'in DataLoader worker process' in text:
        text = text.splitlines()[-1]
    text = ' '.join(text.split())
    return text if len(text) <= 400 or _is_own(error) else f'{text[:300]} ... {text[-80:]}'


def _is_own(error: BaseException) -> bool:
    """Whether mmkd raised it on purpose, with a message that tells rule, received and remedy."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return False
    room = trace.tb_frame.f_globals.get('__name__', '')
    if room.split('.')[0] not in ('mmkd', 'mmkd_onnx'):
        return False
    return trace.tb_frame.f_code.co_code[trace.tb_lasti] == dis.opmap['RAISE_VARARGS']


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 160 else f'{text[:120]}...{text[-30:]}'


def _near(name: str, names: list[str]) -> str:
    near = nearest(name, names) or names[:8]
    return f'Nearest: {", ".join(near)}.' if near else ''


def _arguments(kind: str) -> list[str]:
    """What a registered class or function of this name takes, base classes included."""
    found = [r.module_dict[kind] for r in _registries() if kind in r.module_dict]
    names: dict[str, None] = {}
    for cls in found and inspect.getmro(found[0]) if found and inspect.isclass(found[0]) else found:
        if '__init__' in vars(cls) or not inspect.isclass(cls):
            names.update(dict.fromkeys(inspect.signature(cls).parameters))
    return [name for name in names if name not in ('self', 'args', 'kwargs')]


def _registries() -> Iterator[Registry]:
    waiting = [value for value in vars(root).values() if isinstance(value, Registry)]
    while waiting:
        registry = waiting.pop()
        yield registry
        waiting += registry.children.values()
