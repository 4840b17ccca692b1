"""A config's text read as literals: what mmengine writes into a checkpoint, never executed.

mmengine's ``Config.fromstring`` runs the text as Python, so a checkpoint's ``meta['cfg']`` would be
code. Here it is parsed and only data is taken from it. Needs the standard library alone.
"""

import ast
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: The longest text read, in characters: the longest of mmdet's configs has a fortieth of it.
MAX_TEXT = 4_000_000

#: How deep dicts and lists may lie in each other.
MAX_DEPTH = 64

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
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ConfigTextError(
            f'a config must be Python text, but got {type(error).__name__}: {error}. '
            'Is it the text of a config?'
        ) from None
    reader = _Reader()
    for node in tree.body:
        reader.statement(node)
    return ConfigLiterals(reader.values, tuple(reader.unread))


class _NoLiteral(Exception):
    """Something that would have to be executed."""


class _Reader:
    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.unread: list[str] = []

    def statement(self, node: ast.stmt) -> None:
        if not isinstance(node, ast.Assign) or len(node.targets) > 1:
            return
        target = node.targets[0]
        if not isinstance(target, ast.Name):
            self.unread.append(ast.unparse(target).split('.')[0].split('[')[0])
            return
        self.values.pop(target.id, None)
        try:
            self.values[target.id] = self.read(node.value, target.id, 0)
        except _NoLiteral:
            self.unread.append(target.id)

    def read(self, node: ast.expr, path: str, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise ConfigTextError(
                f'a config must be at most {MAX_DEPTH} levels deep, but {path[:80]} is deeper. '
                'Is it the text of a config?'
            )
        if isinstance(node, ast.Constant) and not isinstance(node.value, bytes | complex):
            if node.value is not ...:
                return node.value
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
            value = self.read(node.operand, path, depth + 1)
            if isinstance(value, int | float) and not isinstance(value, bool):
                return -value if isinstance(node.op, ast.USub) else value
        elif isinstance(node, ast.Name):
            return self.name(node, path)
        elif isinstance(node, ast.List | ast.Tuple | ast.Set):
            return self.items(node, path, depth)
        elif isinstance(node, ast.Dict):
            return self.pairs(zip(node.keys, node.values, strict=True), path, depth)
        elif isinstance(node, ast.Call):
            return self.call(node, path, depth)
        elif isinstance(node, ast.Attribute) and path.endswith('.type'):
            return ast.unparse(node)  # a class, as pretty_text writes one
        raise _NoLiteral

    def name(self, node: ast.Name, path: str) -> Any:
        if node.id in self.values:
            if not ConfigLiterals({}, tuple(self.unread)).reads(node.id):
                self.unread.append(path)  # what was left out there is left out here
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

    def pairs(self, pairs: Any, path: str, depth: int) -> dict:
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
                self.unread.append(f'{path}.{key}')
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
