"""Whether a function is the one that it was: by what it runs and what it holds."""

import dis
import hashlib
import inspect
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import CodeType, FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor, nn

_CHANGES = ('STORE_DEREF', 'STORE_GLOBAL', 'STORE_ATTR')


def function_digest(function: Any) -> str:
    """The SHA-256 of what decides a function's results, in hexadecimal digits.

    That is its code, the file that it stands in, and what it reaches by its defaults, its closure,
    its object or the names of its module: numbers, text, weights of networks, and other functions.
    Lists and dicts may change as it runs, so they do not count; nor does what it imports.

    Args:
        function: a function, a method, a partial, or an object that is called.

    >>> def scaled(by):
    ...     return lambda image: image * by
    >>> function_digest(scaled(2)) == function_digest(scaled(2)), (
    ...     function_digest(scaled(2)) == function_digest(scaled(3))
    ... )
    (True, False)
    """
    digest, seen, todo = hashlib.sha256(), set[int](), [('', function)]
    while todo:
        name, value = todo.pop()
        digest.update(f'{name}={type(value).__qualname__};'.encode())
        if _is_plain(value):
            digest.update(repr(value).encode())
        elif id(value) not in seen:
            seen.add(id(value))
            for part in _own(value):
                digest.update(part)
            todo += _reached(value)
    return digest.hexdigest()


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    return isinstance(value, int | float | complex | str | bytes | None)


def _own(value: Any) -> Iterator[bytes]:
    """What something is, apart from what it reaches."""
    if isinstance(value, FunctionType):
        yield from _file(value.__code__.co_filename)
        yield from _code(value.__code__)
    elif isinstance(value, nn.Module):
        for name, tensor in sorted(value.state_dict().items()):
            yield name.encode()
            if isinstance(tensor, Tensor) and tensor.layout == torch.strided:
                yield str((tensor.dtype, tensor.shape)).encode()
                yield (
                    tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
                )
    elif (code := _called(value)) is not None:
        yield from _file(code.co_filename)
        yield from _code(code)


def _called(value: Any) -> CodeType | None:
    """What runs when an object is called, or a method."""
    call = getattr(value, '__func__', None) or (callable(value) and type(value).__call__)
    if not call or isinstance(value, type):
        return None
    return getattr(inspect.unwrap(call), '__code__', None)


def _file(path: str) -> Iterator[bytes]:
    if Path(path).is_file():
        yield Path(path).read_bytes()


def _code(code: CodeType) -> Iterator[bytes]:
    yield code.co_code
    yield repr(code.co_names).encode()
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _code(constant)
        else:
            yield repr(sorted(constant) if isinstance(constant, frozenset) else constant).encode()


def _reached(value: Any) -> list[tuple[str, Any]]:
    """By name what a function holds and calls; what it changes itself is left out."""
    if isinstance(value, partial):
        return [('function', value.func), ('given', value.args), *sorted(value.keywords.items())]
    if isinstance(value, MethodType):
        return [
            ('function', value.__func__),
            ('object', value.__self__),
            *_held(value.__self__, value),
        ]
    if not isinstance(value, FunctionType):
        return _held(value, value)
    changed = {step.argval for step in _steps(value.__code__) if step.opname in _CHANGES[:2]}
    found = [('default', value.__defaults__), *sorted((value.__kwdefaults__ or {}).items())]
    for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
        try:
            found += [(name, cell.cell_contents)] * (name not in changed)
        except ValueError:  # not bound yet
            continue
    found += _globals(value, changed)
    if hasattr(value, '__wrapped__'):
        found.append(('wrapped', value.__wrapped__))
    return found


def _held(value: Any, called: Any) -> list[tuple[str, Any]]:
    """The attributes of an object, but for those that it changes when it is called."""
    code = _called(called)
    if code is None or isinstance(value, type | nn.Module):
        return []
    changed = {step.argval for step in _steps(code) if step.opname == _CHANGES[2]}
    return [(k, v) for k, v in sorted(getattr(value, '__dict__', {}).items()) if k not in changed]


def _globals(function: FunctionType, changed: set[Any]) -> Iterator[tuple[str, Any]]:
    """What a function reaches by the names of its module, but not the functions of others."""
    names = {step.argval for step in _steps(function.__code__) if step.opname == 'LOAD_GLOBAL'}
    for name in sorted(names - changed):
        value = function.__globals__.get(name)
        other = isinstance(value, FunctionType) and value.__globals__ is not function.__globals__
        if not other and not isinstance(value, type):
            yield name, value


def _steps(code: CodeType) -> Iterator[dis.Instruction]:
    yield from dis.get_instructions(code)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _steps(constant)
