"""The config in a checkpoint that is opened alone: of registered types, or refused."""

import dis
import functools
import importlib.util
import inspect
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import mmcv.ops
from mmengine import registry
from mmengine.registry import Registry
from torch import nn

from mmkd.checkpoints.absurd_numbers import absurd_numbers
from mmkd.checkpoints.foreign import shown
from mmkd.checkpoints.registered_parts import _is_plain_word, _lookup, _registries
from mmkd.config.config_literals import read_literals

#: What an inferencer takes from a config.
_OF_INFERENCE = (
    *('model', 'default_scope', 'test_dataloader', 'val_dataloader', 'test_pipeline', 'visualizer'),
    *('test_cfg', 'data_preprocessor'),
)

#: Scopes that it may name: mmengine would import a package of any other name.
_SCOPES = (None, 'mmengine', 'mmcv', 'mmdet', 'mmyolo', 'mmrazor', 'mmkd')

_CONFIGS = ('.py', '.yaml', '.yml', '.json')

#: What a constructor calls that takes an argument for code; and that opens or downloads what one
#: names, as a teacher's weights or those of a language model.
_RUN = {'eval', 'exec'}
_OPEN = {'.fromfile', '.from_pretrained', 'load_checkpoint', '.load_checkpoint', 'open'}


def registered_config(
    checkpoint: Any, path: str, student: bool = False, also: Sequence[str] = ()
) -> dict[str, Any]:
    """The config in a checkpoint, of literals and types that are registered, to build a model of.

    Args:
        checkpoint: what was read.
        path: of which file, for the error.
        student: whether a pair's config is to become that of its student, which may be of mmengine,
            mmdet, MMYOLO and mmkd alone, and open no other file. Defaults to False.
        also: keys that are taken besides what an inferencer takes.

    Raises:
        ValueError: there is none; or it names something else, which would be imported and run.
    """
    text = None
    for keys in (('message_hub', 'runtime_info', 'cfg'), ('meta', 'cfg')):
        found: Any = checkpoint
        for key in keys:
            found = found.get(key) if isinstance(found, Mapping) else None
        text = text or found
    why = 'has none'
    if isinstance(text, str):
        read = read_literals(text)
        taken = {*_OF_INFERENCE, *also}
        used = {key: value for key, value in read.values.items() if key in taken}
        model, place = used.get('model'), 'model'
        while student and isinstance(model, Mapping) and 'architecture' in model:
            model, place = model['architecture'], f'{place}.architecture'
        used['model'] = model
        unread = [lost for lost in read.unread if _concerns(lost, place, taken)]
        foreign = [*unread, *_foreign(used, student), *_files(model)]
        odd = next(chain(_misshapen(used), absurd_numbers(model, used)), None)
        if isinstance(model, Mapping) and not foreign and odd is None:
            return used
        if odd is not None:
            why = f'has one with {shown(odd, 150)}'
        if foreign:
            why = f'has one with {shown(", ".join(foreign[:3]), 150)}, which would have to be run'
    raise ValueError(
        f'a checkpoint that is opened alone must hold its config, of registered types, but "{path}"'
        f' {why}. Give the config, too.'
    )


def _concerns(lost: str, place: str, taken: Collection[str]) -> bool:
    """Whether what was not read is part of what is used, whose model stands at ``place``."""
    if lost.split('.')[0] != 'model':
        return lost.split('.')[0] in taken
    return f'{lost}.'.startswith(f'{place}.') or f'{place}.'.startswith(f'{lost}.')


def _foreign(node: Any, student: bool) -> Iterator[str]:
    """What a config names that is not registered, or a scope that is not known."""
    nodes = list(_mappings(node))
    scopes = [found[key] for found in nodes for key in ('_scope_', 'default_scope') if key in found]
    names = [found['type'] for found in nodes if isinstance(found.get('type'), str)]
    yield from (str(scope) for scope in scopes if scope not in _SCOPES)
    if 'mmyolo' in scopes or any(name.startswith('mmyolo.') for name in names):
        _register_mmyolo()
    for name in names:
        known = _names_registered(name, student) or _is_plain_word(name) or _is_op(name)
        if not known or _does(name, _RUN | (_OPEN if student else set())):
            yield name


def _mappings(node: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(node, Mapping):
        yield node
        node = list(node.values())
    if isinstance(node, list | tuple):
        for item in node:
            yield from _mappings(item)


def _files(node: Any) -> Iterator[str]:
    """Config files that a model names, which are Python: of a teacher, or of an installed one."""
    if isinstance(node, str) and (node.lower().endswith(_CONFIGS) or '::' in node):
        yield node
    if isinstance(node, Mapping):
        node = list(node.values())
    if isinstance(node, list | tuple | set):
        for item in node:
            yield from _files(item)


def _misshapen(used: Mapping[str, Any]) -> Iterator[str]:
    """What of the data is no dict, or no list of dicts, where mmdet takes it for one."""
    loaders = {key: value for key, value in used.items() if key.endswith('_dataloader')}
    found = [*loaders.items(), ('test_pipeline', used.get('test_pipeline'))]
    found += [item for node in _mappings(loaders) for item in node.items()]
    for key, value in found:
        listed = isinstance(value, list | tuple) and all(isinstance(one, Mapping) for one in value)
        maps = key in (*loaders, 'dataset', 'metainfo')
        if value is not None and (
            (maps and not isinstance(value, Mapping)) or (key.endswith('pipeline') and not listed)
        ):
            yield f'{value!r:.40} for its {key}'


def _register_mmyolo() -> None:
    """MMYOLO's types, once a config asks for them."""
    try:
        from mmyolo.utils import register_all_modules
    except ImportError:
        raise ValueError(
            'a checkpoint of MMYOLO needs MMYOLO, which is not installed. pip install mmkd[yolo]'
        ) from None
    register_all_modules(init_default_scope=False)


def _names_registered(name: str, student: bool) -> bool:
    """Whether any registry has a class by this name: "X", "mmdet.X" or "mmdet.models.X".

    A student's is none of MMRazor, and none for which a file would be imported: mmengine takes a
    name that is in another registry than the one it asks for that of a module.
    """
    package, _, plain = name.rpartition('.')
    package = package.split('.')[0]
    roots = [value for value in vars(registry).values() if isinstance(value, Registry)]
    kinds = {kind for found in _registries(roots) for kind in found.module_dict.values()}
    if student:
        kinds = {kind for kind in kinds if not f'{_home(kind)}.'.startswith('mmrazor.')}
    if name.isidentifier() and not _lookup(name) and importlib.util.find_spec(name) is not None:
        return False
    if name.count('.') > 1:  # as pure-Python configs name their types
        return any(
            getattr(kind, '__name__', '') == plain and _home(kind).split('.')[0] == package
            for kind in kinds
        )
    return any(
        found.module_dict.get(plain) in kinds and (not package or package == found.scope)
        for found in _registries(roots)
    )


def _does(name: str, calls: Collection[str]) -> bool:
    """Whether a constructor of a class by this name calls one of ``calls``."""
    plain = name.rpartition('.')[2]
    roots = [value for value in vars(registry).values() if isinstance(value, Registry)]
    items = [item for found in _registries(roots) for item in found.module_dict.items()]
    kinds = [kind for key, kind in items if plain in (key, getattr(kind, '__name__', ''))]
    return any(not called_by(kind).isdisjoint(calls) for kind in kinds)


@functools.cache
def called_by(kind: Any) -> frozenset[str]:
    """What a class's constructor names, attributes as ".name", with the modules that it makes."""
    found: set[str] = set()
    waiting, seen = [kind], set()
    while waiting:
        bases = [base for base in getattr(waiting.pop(), '__mro__', ()) if base not in seen]
        seen.update(bases)
        own = [vars(base).get('__init__') for base in bases]
        for function in map(inspect.unwrap, filter(inspect.isfunction, own)):
            if function.__module__.split('.')[0] == 'torch':
                continue
            used = set(_names_in(function.__code__))
            parts = [function.__globals__.get(name) for name in used]
            waiting += [
                one for one in parts if isinstance(one, type) and issubclass(one, nn.Module)
            ]
            found |= used
    return frozenset(found)


def _names_in(code: Any) -> Iterator[str]:
    for step in dis.get_instructions(code):
        if step.opname in ('LOAD_GLOBAL', 'LOAD_NAME'):
            yield step.argval
        elif step.opname in ('LOAD_ATTR', 'LOAD_METHOD'):
            yield f'.{step.argval}'
        elif inspect.iscode(step.argval):
            yield from _names_in(step.argval)


def _is_op(name: str) -> bool:
    """Whether it is a layer of mmcv's ops, which RoI extractors take by its name: RoIAlign."""
    kind = getattr(mmcv.ops, name, None)
    layer = isinstance(kind, type) and issubclass(kind, nn.Module)
    return layer and importlib.util.find_spec(name) is None


def _home(kind: Any) -> str:
    return str(getattr(kind, '__module__', ''))
