"""A config's text read as literals: what mmengine writes into a checkpoint, never executed.

mmengine's ``Config.fromstring`` runs the text as Python, so a checkpoint's ``meta['cfg']`` would be
code. Here it is parsed and only data is taken from it. Needs the standard library alone.
"""

import ast
import math
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from mmkd.config.parser_depth import nests_too_deep

#: The longest text read, in characters: the longest of mmdet's configs has a tenth of it.
MAX_TEXT = 1_000_000

#: How many values may be read, those counted again that a name stands for.
MAX_VALUES = 1_000_000

#: How deep dicts and lists may lie in each other, through names, too.
MAX_DEPTH = 64

_MAX_FRAMES = 1000

_NUMBERS = {'inf': math.inf, 'nan': math.nan}  # as str() writes them
_CALLS = {'dict': dict, 'list': list, 'tuple': tuple, 'set': set}


class ConfigTextError(ValueError):
    """A text that is no config, or too large to be one."""


@dataclass(frozen=True)
class ConfigLiterals:
    """What a config's text says in literals.

    Args:
        values: by name what the text assigns.
        unread: where something else than a literal stands, for example ``model.bbox_head.loss``;
            such a key is left out of ``values``.
    """

    values: dict[str, Any] = field(default_factory=dict)
    unread: tuple[str, ...] = ()

    def reads(self, path: str) -> bool:
        """Whether all below ``path`` was read."""
        return not any(f'{lost}.'.startswith(f'{path}.') for lost in self.unread)


def read_literals(text: str) -> ConfigLiterals:
    """Read assignments of literals; nothing is executed, imported or opened.

    Literals are numbers, strings, ``True``, ``False``, ``None``, lists, tuples, sets, dicts in
    both spellings, ``dict(a, **b)``, names assigned before in the same text, and, as a ``type``
    alone, a dotted name, which stays a string.

    Args:
        text: as ``Config.pretty_text`` writes it, or of a config file in plain assignments.

    Raises:
        ConfigTextError: the text is no Python, or longer or deeper than any config.

    Example:
        >>> read_literals('a = dict(type="SSD", scale=(300, -1e3))').values
        {'a': {'type': 'SSD', 'scale': (300, -1000.0)}}
        >>> read_literals('a = dict(b=open("x"), c=1)')
        ConfigLiterals(values={'a': {'c': 1}}, unread=('a.b',))
    """
    if len(text) > MAX_TEXT:
        raise ConfigTextError(
            f'a config must be at most {MAX_TEXT} characters long, but got {len(text)}. '
            'Is it the text of a config?'
        )
    reader = _Reader()
    try:
        if sys.version_info < (3, 11) and nests_too_deep(text):
            raise RecursionError('parts of it lie in each other too often')
        with _bounded_recursion():
            for node in ast.parse(text).body:
                reader.statement(node)
    except ConfigTextError:
        raise
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ConfigTextError(
            f'a config must be Python text, but got {type(error).__name__}: {error}. '
            'Is it the text of a config?'
        ) from None
    return ConfigLiterals(reader.values, tuple(reader.unread))


@contextmanager
def _bounded_recursion() -> Iterator[None]:
    """A text that nests without end is an error, though packages lift the limit for themselves.

    Without a limit (some set 2 ** 20) Python's parser overflows the stack, and the process ends.
    """
    limit, depth = sys.getrecursionlimit(), 0
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        frame, depth = frame.f_back, depth + 1
    sys.setrecursionlimit(min(limit, depth + _MAX_FRAMES))
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)


class _NoLiteral(Exception):
    """Something that would have to be executed."""


class _Reader:
    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.unread: list[str] = []
        self.partial: set[str] = set()  # names, of which something is in ``unread``
        self.sizes: dict[str, tuple[int, int]] = {}  # by name: how many values, how deep
        self.count = self.deepest = 0

    def statement(self, node: ast.stmt) -> None:
        if not isinstance(node, ast.Assign) or len(node.targets) > 1:
            return
        target = node.targets[0]
        if not isinstance(target, ast.Name):
            self.lose(ast.unparse(target).split('.')[0].split('[')[0])
            return
        self.values.pop(target.id, None)
        before, self.deepest = self.count, 0
        try:
            self.values[target.id] = self.read(node.value, target.id, 0)
        except _NoLiteral:
            self.lose(target.id)
        self.sizes[target.id] = self.count - before, self.deepest

    def lose(self, path: str) -> None:
        self.unread.append(path)
        self.partial.add(path.split('.')[0])

    def account(self, path: str, values: int, depth: int) -> None:
        self.count += values
        self.deepest = max(self.deepest, depth)
        for got, most, what in (
            (self.deepest, MAX_DEPTH, 'levels deep'),
            (self.count, MAX_VALUES, 'values long'),
        ):
            if got > most:
                raise ConfigTextError(
                    f'a config must be at most {most} {what}, but {path[:80]} goes beyond. '
                    'Is it the text of a config?'
                )

    def read(self, node: ast.expr, path: str, depth: int) -> Any:
        self.account(path, 1, depth)
        if isinstance(node, ast.Constant) and not isinstance(node.value, bytes | complex):
            if node.value is not ...:
                return node.value
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
            value = self.read(node.operand, path, depth + 1)
            if isinstance(value, int | float) and not isinstance(value, bool):
                return -value if isinstance(node.op, ast.USub) else value
        elif isinstance(node, ast.Name):
            return self.name(node, path, depth)
        elif isinstance(node, ast.List | ast.Tuple | ast.Set):
            return self.items(node, path, depth)
        elif isinstance(node, ast.Dict):
            return self.pairs(zip(node.keys, node.values, strict=True), path, depth)
        elif isinstance(node, ast.Call):
            return self.call(node, path, depth)
        elif isinstance(node, ast.Attribute) and path.endswith('.type'):
            return ast.unparse(node)  # a class, as pretty_text writes one
        raise _NoLiteral

    def name(self, node: ast.Name, path: str, depth: int) -> Any:
        if node.id in self.values:
            values, deep = self.sizes[node.id]
            self.account(path, values, depth + deep)
            if node.id in self.partial:
                self.lose(path)  # what was left out there is left out here
            return self.values[node.id]
        if node.id in _NUMBERS:
            return _NUMBERS[node.id]
        raise _NoLiteral

    def items(self, node: ast.List | ast.Tuple | ast.Set, path: str, depth: int) -> Any:
        read = [self.read(item, f'{path}.{i}', depth + 1) for i, item in enumerate(node.elts)]
        try:
            return {ast.List: list, ast.Tuple: tuple, ast.Set: set}[type(node)](read)
        except TypeError:  # not hashable
            raise _NoLiteral from None

    def pairs(self, pairs: Any, path: str, depth: int) -> dict[str, Any]:
        found: dict[Any, Any] = {}
        for key_node, value_node in pairs:
            if key_node is None:  # **other
                merged = self.read(value_node, path, depth + 1)
                if not isinstance(merged, Mapping):
                    raise _NoLiteral
                found.update(merged)
                continue
            key = key_node if isinstance(key_node, str) else self.read(key_node, path, depth + 1)
            if isinstance(key, list | dict | set | tuple):
                raise _NoLiteral
            found.pop(key, None)
            try:
                found[key] = self.read(value_node, f'{path}.{key}', depth + 1)
            except _NoLiteral:
                self.lose(f'{path}.{key}')
        return found

    def call(self, node: ast.Call, path: str, depth: int) -> Any:
        name = node.func.id if isinstance(node.func, ast.Name) else ''
        if name in self.values or len(node.args) > 1:
            raise _NoLiteral
        argument = self.read(node.args[0], path, depth + 1) if node.args else None
        if name == 'dict' and (argument is None or isinstance(argument, Mapping)):
            named = self.pairs(((item.arg, item.value) for item in node.keywords), path, depth)
            return {**(argument or {}), **named}
        if name == 'float' and not node.keywords and str(argument).strip('+-').lower() in _NUMBERS:
            return float(str(argument))
        if name in _CALLS and not node.args and not node.keywords:
            return _CALLS[name]()
        raise _NoLiteral
