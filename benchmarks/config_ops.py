"""Which compiled ops of mmcv the configs that mmdet ships may call, and which have a stand-in.

    python benchmarks/config_ops.py [FOLDER ...]

Nothing is built or run: each type that a config's model names is looked up, and the code of its
class, of its bases and of what these call is searched for names of ``mmcv.ops``, down to the names
of compiled functions. So an op is listed where a path leads to it, also one that is not taken.
"""

import argparse
import functools
import importlib
import inspect
import re
import sys
import types
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import mmkd  # noqa: F401

# isort: split
import mmcv.ops
import mmdet.models
from mmdet.registry import MODELS, TASK_UTILS
from mmengine.config import Config
from mmengine.registry import DefaultScope

from mmkd.compat.mmcv_ops import supplied_ops

CONFIGS = Path(mmdet.models.__file__).parents[1] / '.mim/configs'


@functools.cache
def compiled(module: str) -> frozenset[str]:
    """The compiled functions that a module of mmcv.ops loads."""
    source = inspect.getsource(importlib.import_module(module))
    lists = re.findall(r"load_ext\(\s*'_ext',\s*\[(.*?)\]", source, re.S)
    return frozenset(re.findall(r"'(\w+)'", ' '.join(lists)))


def codes(value: Any) -> Iterator[types.CodeType]:
    """The code of a function, or of a class's own methods, with what is defined inside."""
    if isinstance(value, type):
        for member in vars(value).values():
            yield from () if isinstance(member, type) else codes(member)
        return
    value = getattr(value, '__func__', getattr(value, 'fget', value))
    stack = [inspect.unwrap(value).__code__] if inspect.isfunction(value) else []
    while stack:
        yield (code := stack.pop())
        stack += [part for part in code.co_consts if isinstance(part, types.CodeType)]


@functools.cache
def called(value: Any) -> frozenset[str]:
    """The compiled ops that ``value``, a function or a class, may call."""
    found: set[str] = set()
    seen, stack = set(), [value]
    while stack:
        value = stack.pop()
        value = value.__self__ if inspect.ismethod(value) else value  # a Function's ``apply``
        module = sys.modules.get(getattr(value, '__module__', None) or '')
        if (
            id(value) in seen
            or module is None
            or not module.__name__.startswith(('mmcv.ops', 'mmdet'))
        ):
            continue
        seen.add(id(value))
        stack += value.__mro__[1:] if isinstance(value, type) else []
        names = {name for code in codes(value) for name in code.co_names}
        found |= (
            names & compiled(module.__name__) if module.__name__.startswith('mmcv.ops') else set()
        )
        stack += [vars(module)[name] for name in names if callable(vars(module).get(name))]
    return frozenset(found)


def named(config: Any) -> Iterator[str]:
    """Each ``type`` in a config, however deep."""
    if isinstance(config, dict):
        if isinstance(config.get('type'), str):
            yield config['type']
        for item in config.values():
            yield from named(item)
    elif isinstance(config, list | tuple):
        for item in config:
            yield from named(item)


def defaults(cls: Any) -> Iterator[str]:
    """Each ``type`` in the default arguments of a class."""
    for base in getattr(cls, '__mro__', ()):
        if inspect.isfunction(vars(base).get('__init__')):
            for parameter in inspect.signature(vars(base)['__init__']).parameters.values():
                yield from named(parameter.default)


def ops_of(config: Any) -> set[str]:
    """Of all that a config names: registered classes, their default parts, names in mmcv.ops."""
    found: set[str] = set()
    seen: set[str] = set()
    stack = list(named(config))
    while stack:
        name = stack.pop()
        if name not in seen:
            seen.add(name)
            cls = MODELS.get(name) or TASK_UTILS.get(name) or getattr(mmcv.ops, name, None)
            found |= called(cls) if cls is not None else set()
            stack += defaults(cls)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('folders', nargs='*', help='of configs; by default all')
    wanted = parser.parse_args().folders
    needing: dict[str, set[Path]] = defaultdict(set)
    configs = 0
    for folder in wanted or sorted(p.name for p in CONFIGS.iterdir() if p.name != '_base_'):
        for path in sorted((CONFIGS / folder).glob('*.py')):
            with DefaultScope.overwrite_default_scope('mmdet'):
                try:
                    config = Config.fromfile(path, import_custom_modules=False)
                except Exception as error:  # some name a base that mmdet does not ship
                    print(f'left out: {path.name}: {str(error)[-80:]}')
                    continue
                found = ops_of(config.get('model'))
            configs += 1
            for op in found:
                needing[op].add(path)
    print(f'{configs} configs of mmdet {mmdet.__version__}')
    for op, paths in sorted(needing.items(), key=lambda item: -len(item[1])):
        folders = sorted({path.parent.name for path in paths})
        state = 'stand-in' if op in supplied_ops() else 'MISSING'
        shown = ', '.join(folders[:8]) + (
            f' and {len(folders) - 8} more' if len(folders) > 8 else ''
        )
        print(f'{op:36} {state:9} {len(paths):4} configs: {shown}')


if __name__ == '__main__':
    main()
