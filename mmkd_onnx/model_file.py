"""What an ONNX file says of itself, read from its bytes before anything of it is run.

A file is checked here without onnx or protobuf: only a program that reads no more than tags and
lengths sees what a hostile file claims before memory is given to it.
"""

import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmkd_onnx.metadata import Metadata, read_metadata

#: The key of the metadata, a text in JSON.
KEY = 'mmkd'

MAX_BYTES = 2**31 - 1  # of a protobuf message
MAX_METADATA = 1 << 20
MAX_ELEMENTS = 1 << 31  # of what a size in the graph asks for
_MAX_DEPTH = 32

#: Operators that make a tensor of a size that they are told, and the input that tells it.
_SIZED = {'ConstantOfShape': 0, 'Expand': 1, 'Tile': 1, 'Resize': 3, 'Range': 1}
_DOMAINS = ('', 'ai.onnx', 'com.microsoft')
_BITS = {1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64}
_BITS |= {14: 64, 15: 128, 16: 16, 21: 4, 22: 4, 23: 4}

#: A few bytes of it may stand for a tensor of any size.
_SPARSE = 'holds sparse tensors, which no export writes'
_REMEDY = 'Export the detector again: mmkd export STUDENT --format onnx.'


class ModelFileError(ValueError):
    """A file that is no exported detector, or asks for what none asks for."""


def read_file(path: str | os.PathLike[str]) -> tuple[Path, Metadata]:
    """Check a file that ``mmkd export --format onnx`` wrote, and read its metadata.

    Raises:
        FileNotFoundError: there is no such file.
        ModelFileError: it is no such file, its weights lie outside its folder, or it asks for
            absurd sizes.
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f'an exported detector must be a file, but there is no "{file}".')
    size = file.stat().st_size
    if not 0 < size <= MAX_BYTES:
        raise _error(file, f'has {size} bytes, where an ONNX file has at most {MAX_BYTES}')
    try:
        data = memoryview(file.read_bytes())
        text = _checked(data, file)
    except (IndexError, KeyError, TypeError, UnicodeDecodeError, OverflowError) as error:
        raise _error(file, f'is no ONNX file ({type(error).__name__})') from None
    if text is None:
        raise _error(file, f'has no metadata "{KEY}"')
    try:
        return file, read_metadata(text)
    except ValueError as error:
        raise _error(file, str(error)) from None


def _error(file: Path, what: str) -> ModelFileError:
    return ModelFileError(
        f'an exported detector must be a file that mmkd export --format onnx wrote, but "{file}" '
        f'{what}. {_REMEDY}'
    )


def _fields(data: memoryview) -> Iterator[tuple[int, Any]]:
    """The fields of a protobuf message: number, and an integer or bytes."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield tag >> 3, value
            continue
        length = {1: 8, 5: 4}.get(kind)
        if kind == 2:
            length, at = _varint(data, at)
        if length is None or at + length > len(data):
            raise IndexError(at)
        yield tag >> 3, data[at : at + length]
        at += length


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at, value, shift = at + 1, value | (byte & 0x7F) << shift, shift + 7
        if byte < 0x80:
            return value, at
        if shift > 63:
            raise IndexError(at)


def _integers(value: Any) -> list[int]:
    """A repeated integer, packed or not, signed."""
    found, at = [], 0
    if isinstance(value, int):
        found = [value]
    else:
        while at < len(value):
            one, at = _varint(value, at)
            found.append(one)
    return [n - (1 << 64) if n >> 63 else n for n in found]


def _text(value: Any) -> str:
    return bytes(value).decode()


def _checked(data: memoryview, file: Path) -> str | None:
    """Check a ModelProto; the metadata's text."""
    text, seen_graph = None, False
    for number, value in _fields(data):
        if number == 7:
            _check_graph(value, file)
            seen_graph = True
        elif number == 14:
            pair = dict(_fields(value))
            if _text(pair.get(1, b'')) == KEY:
                if len(pair[2]) > MAX_METADATA:
                    raise _error(file, f'has metadata of {len(pair[2])} bytes')
                text = _text(pair[2])
        elif number == 25:  # functions, whose nodes are checked like the graph's
            _check_nodes([v for n, v in _fields(value) if n == 7], {}, file, 0)
            for default in (v for n, v in _fields(value) if n == 11):
                list(_tensors_in(default, file, 0))
    if not seen_graph:
        raise _error(file, 'is no ONNX file (it has no graph)')
    return text


def _check_graph(graph: memoryview, file: Path, depth: int = 0) -> None:
    if depth > _MAX_DEPTH:
        raise _error(file, f'has graphs nested more than {_MAX_DEPTH} deep')
    nodes, constants = [], {}
    for number, value in _fields(graph):
        if number == 1:
            nodes.append(value)
        elif number == 5:
            name, numbers = _check_tensor(value, file)
            constants[name] = numbers
        elif number == 15:
            raise _error(file, _SPARSE)
        elif number in (11, 12, 13):
            _check_declared(value, file)
    _check_nodes(nodes, constants, file, depth)


def _check_nodes(
    nodes: list[memoryview], constants: dict[str, list[int]], file: Path, depth: int
) -> None:
    for node in nodes:
        inputs, outputs, kind, domain = [], [], '', ''
        for number, value in _fields(node):
            if number == 1:
                inputs.append(_text(value))
            elif number == 2:
                outputs.append(_text(value))
            elif number == 4:
                kind = _text(value)
            elif number == 7:
                domain = _text(value)
            elif number == 5:
                for numbers in _tensors_in(value, file, depth):
                    constants[outputs[0] if outputs else ''] = numbers
        if domain not in _DOMAINS and not domain.startswith('pkg.'):
            raise _error(file, f'needs operators of "{domain[:80]}"')
        place = _SIZED.get(kind)
        told = constants.get(inputs[place]) if place is not None and place < len(inputs) else None
        if told and math.prod(abs(n) for n in told if n) > MAX_ELEMENTS:
            raise _error(file, f'asks for a tensor of {told[:8]} elements ({kind})')


def _tensors_in(attribute: memoryview, file: Path, depth: int) -> Iterator[list[int]]:
    """Check an AttributeProto; the numbers of each tensor in it."""
    for number, value in _fields(attribute):
        if number in (5, 10):
            yield _check_tensor(value, file)[1]
        elif number in (6, 11):
            _check_graph(value, file, depth + 1)
        elif number in (22, 23):
            raise _error(file, _SPARSE)


def _check_declared(value: memoryview, file: Path) -> None:
    """The declared shape of an input, an output or a value: its type's tensor's shape's sides."""
    found: list[Any] = [value]
    for wanted in (2, 1, 2, 1, 1):
        parts = [part for part in found if not isinstance(part, int)]
        found = [v for part in parts for number, v in _fields(part) if number == wanted]
    sides = [int(side) for side in found if isinstance(side, int)]
    if math.prod(max(side, 1) for side in sides) > MAX_ELEMENTS:
        raise _error(file, f'declares a tensor of {sides[:8]} elements')


def _check_tensor(tensor: memoryview, file: Path) -> tuple[str, list[int]]:
    """Check a TensorProto: its name, and its numbers if it is a short one of int64."""
    dims: list[int] = []
    numbers: list[int] = []
    outside: dict[str, str] = {}
    name, kind, typed, external = '', 0, 0, False
    raw: Any = b''
    for number, value in _fields(tensor):
        if number == 1:
            dims += _integers(value)
        elif number == 2:
            kind = value
        elif number == 8:
            name = _text(value)
        elif number == 9:
            raw = value
        elif number in (4, 5, 6, 7, 10, 11):
            typed += 1 if isinstance(value, int) else len(value)
            if number == 7 and typed <= 256:
                numbers += _integers(value)
        elif number == 13:
            pair = dict(_fields(value))
            outside[_text(pair[1])] = _text(pair.get(2, b''))
        elif number == 14:
            external = value == 1
    count = math.prod(dims)
    if min(dims, default=0) < 0:
        raise _error(file, f'holds a tensor of shape {dims[:8]}')
    if external or outside:  # of a message in parts, each alone may say half of it
        _check_outside(outside, count * _BITS.get(kind, 8) // 8, file)
        return name, []
    held = len(raw) if len(raw) else typed
    if kind != 8 and count > 8 * max(held, 1):
        raise _error(file, f'claims a tensor of shape {dims[:8]} and holds {held} bytes of it')
    if kind == 7 and 0 < len(raw) <= 256 and len(raw) % 8 == 0:
        numbers = [
            int.from_bytes(raw[i : i + 8], 'little', signed=True) for i in range(0, len(raw), 8)
        ]
    return name, numbers


def _check_outside(told: Mapping[str, str], needed: int, file: Path) -> None:
    """Weights in a file of their own must lie, whole, in the folder of the model."""
    location = told.get('location', '')
    folder = file.resolve().parent
    target = (folder / location).resolve()
    if not location or os.path.isabs(location) or not target.is_relative_to(folder):
        raise _error(file, f'has weights outside its folder ("{location[:200]}")')
    if not target.is_file():
        raise _error(file, f'has weights in "{location[:200]}", which is not there')
    try:
        start, length = int(told.get('offset') or 0), int(told.get('length') or needed)
    except ValueError:
        start = length = -1
    if start < 0 or length < 0 or max(length, needed) + start > target.stat().st_size:
        raise _error(file, f'asks for more weights than "{location[:200]}" holds')
