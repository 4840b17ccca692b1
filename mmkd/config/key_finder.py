"""Finding the key of a config that an error is about, from the error's traceback."""

import re
from collections.abc import Iterable, Iterator, Mapping
from inspect import signature
from types import FrameType
from typing import Any, TypeAlias

from mmengine.runner import Runner
from torch import nn

from mmkd.distributed.unwrapped import unwrapped

Path: TypeAlias = tuple[str, ...]

#: What a runner reads; the other top-level names of a config are its author's variables.
RUNNER_KEYS = frozenset(signature(Runner).parameters)


def dotted(path: Path) -> str:
    """The form of a key that ``--cfg-options`` takes."""
    return '.'.join(path)


def value_at(config: Any, path: Path) -> Any:
    """What ``config`` has at ``path``."""
    for key in path:
        config = config[int(key)] if isinstance(config, list | tuple) else config[key]
    return config


def entries(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Each key of nested dicts and lists, with what it holds."""
    if isinstance(value, Mapping):
        pairs: Iterable[tuple[Any, Any]] = value.items()
    elif isinstance(value, list | tuple):
        pairs = enumerate(value)
    else:
        return
    for key, item in pairs:
        yield (*path, str(key)), item
        yield from entries(item, (*path, str(key)))


def dicts(value: Any) -> Iterator[Mapping[str, Any]]:
    """Each dict inside nested dicts and lists."""
    return (item for _, item in entries(value) if isinstance(item, Mapping))


class KeyFinder:
    """Follows a traceback from its outermost frame inwards, and a config from its root.

    A frame says which key it is at by the config that it builds from, by the module, loss, hook or
    transform that runs in it, or, in mmkd's own code, by its variable ``where`` or ``what``.

    Args:
        config: the run's config, a plain dict.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.entries = [(path, value) for path, value in entries(config) if path[0] in RUNNER_KEYS]
        self.paths = {path for path, _ in self.entries}
        self.modules: dict[int, Path] = {}

    def find(self, error: BaseException) -> Path:
        """The deepest key that the traceback of ``error`` and of its causes leads to."""
        path: Path = ()
        for frame in _frames(error):
            path = self._of_frame(frame, path) or path
        return path

    def resolve(self, name: str, near: Path = ()) -> Path:
        """The key whose dotted path ends with ``name``, nearest to ``near``; () if none does."""
        parts = tuple(name.split('.'))
        return self._nearest([p for p in self.paths if p[-len(parts) :] == parts], near)

    def of_type(self, name: str, near: Path = ()) -> Path:
        """The key of what has this ``type``, nearest to ``near``."""
        return self._nearest([p for p, value in self.entries if _type_of(value) == name], near)

    def _of_frame(self, frame: FrameType, path: Path) -> Path:
        local, code = frame.f_locals, frame.f_code
        owner, function = local.get('self', local.get('cls')), code.co_name
        if frame.f_globals.get('__name__', '').startswith('mmkd'):
            if owner is None and code.co_argcount:  # a function works for its first argument
                owner = local.get(code.co_varnames[0])
            named = [local[name] for name in ('where', 'what') if name in local]
            if named and isinstance(named[0], str):
                return self._deepest(tuple(named[0].split('.')), path)
        if isinstance(owner, Runner):
            self._learn_modules(owner)
            return self._of_runner(frame)
        if type(owner).__module__.startswith('torch.utils.data'):
            return self._nearest([p for p in self.paths if p[-1].endswith('_dataloader')], path)
        if id(owner) in self.modules:
            path = self._existing(self.modules[id(owner)])
        if function == 'compute_distill_losses' and 'loss_name' in local:
            mappings = ('model', 'distiller', 'loss_forward_mappings', str(local['loss_name']))
            return self._existing((*mappings, str(local.get('forward_key'))))
        if owner is not None and id(owner) not in self.modules:
            kind = owner.__name__ if isinstance(owner, type) else type(owner).__name__
            path = self.of_type(kind, path) or path
        return path if function == '__init__' else self._of_built(frame, path) or path

    def _of_runner(self, frame: FrameType) -> Path:
        """The key that one of a runner's methods is for, by the method's or an argument's name."""
        code = frame.f_code
        if code.co_name in ('__init__', 'from_cfg'):
            return ()
        part = re.sub('^_?(build|register|setup)_', '', code.co_name).replace('_loop', '_cfg')
        part = {'env': 'env_cfg', 'scale_lr': 'auto_scale_lr'}.get(part, part)
        names = [part, *code.co_varnames[: code.co_argcount]]
        return next(((name,) for name in names if (name,) in self.paths), ())

    def _of_built(self, frame: FrameType, path: Path) -> Path:
        """The key of a config that the frame was called with."""
        code = frame.f_code
        found: list[Path] = []
        for name in code.co_varnames[: code.co_argcount]:
            config = frame.f_locals.get(name)
            if isinstance(config, Mapping) and config:
                found += [p for p, value in self.entries if _is_built_from(value, config)]
        return self._nearest(found, path)

    def _learn_modules(self, runner: Runner) -> None:
        model = getattr(runner, 'model', None)
        if self.modules or not isinstance(model, nn.Module):
            return
        model = unwrapped(model)
        for part, root in (('', model), ('teacher', getattr(model, 'teacher', None))):
            if isinstance(root, nn.Module):
                for name, module in root.named_modules(prefix=part):
                    self.modules[id(module)] = ('model', *name.split('.'))

    def _nearest(self, found: list[Path], path: Path) -> Path:
        """The one of ``found`` that is below ``path``, or else beside it; of many what they share.

        Student, teacher and distiller are told apart: below one of them, none of the others is
        near. Below ``train_cfg`` the ``train_`` keys are.
        """
        apart = path[:2] in [('model', part) for part in ('architecture', 'teacher', 'distiller')]
        for end in range(len(path), 1 if apart else 0, -1):
            inside = [p for p in found if p[:end] == path[:end]]
            if inside:
                return _shared(inside)
        others = [p for p in found if not path or p[0] != path[0]]
        phase = path[0].split('_')[0] + '_' if path else ''
        return _shared([p for p in others if phase and p[0].startswith(phase)] or others)

    def _existing(self, path: Path) -> Path:
        """As much of ``path`` as the config has."""
        while path and path not in self.paths:
            path = path[:-1]
        return path

    def _deepest(self, names: Path, path: Path) -> Path:
        """The key that ends with ``names``, or with as many of them as there are."""
        for end in range(len(names), 0, -1):
            found = self.resolve(dotted(names[:end]), path)
            if found:
                return found
        return ()


def _frames(error: BaseException | None) -> Iterator[FrameType]:
    # An error that was raised while another was handled starts where the other one ends.
    while error is not None:
        traceback = error.__traceback__
        while traceback is not None:
            yield traceback.tb_frame
            traceback = traceback.tb_next
        error = error.__cause__ or error.__context__


def _type_of(value: Any) -> str | None:
    kind = value.get('type') if isinstance(value, Mapping) else None
    return kind.split('.')[-1] if isinstance(kind, str) else getattr(kind, '__name__', None)


def _is_built_from(entry: Any, config: Mapping[str, Any]) -> bool:
    """Whether ``config`` is the config's ``entry``, perhaps with more arguments added."""
    if not isinstance(entry, Mapping) or not entry or not ('type' in entry or entry == config):
        return False
    return all(
        key in config and (config[key] == value or (key == 'type' and _begins(config[key], value)))
        for key, value in entry.items()
    )


def _begins(built: Any, given: Any) -> bool:
    # MMRazor builds the recorder 'ModuleOutputs' as 'ModuleOutputsRecorder'.
    return isinstance(built, str) and isinstance(given, str) and built.startswith(given)


def _shared(paths: list[Path]) -> Path:
    if not paths:
        return ()
    first, last = min(paths), max(paths)
    end = 0
    while end < min(len(first), len(last)) and first[end] == last[end]:
        end += 1
    return first[:end]
