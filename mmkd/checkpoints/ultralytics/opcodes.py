"""The opcodes of a pickle, one after the other; nothing is built from them."""

import io
import pickletools
from collections.abc import Iterator
from typing import Any

from mmkd.checkpoints.ultralytics.errors import CheckpointError, need

# The binary opcodes of protocols 2 to 5. Left out is what makes objects in other ways (INST, OBJ,
# NEWOBJ_EX, EXT1, ...), out-of-band buffers, and the text forms of protocol 0.
# fmt: off
_KNOWN_OPCODES = {
    'ADDITEMS', 'APPEND', 'APPENDS', 'BINBYTES', 'BINBYTES8', 'BINFLOAT', 'BINGET', 'BININT',
    'BININT1', 'BININT2', 'BINPERSID', 'BINPUT', 'BINSTRING', 'BINUNICODE', 'BINUNICODE8',
    'BUILD', 'EMPTY_DICT', 'EMPTY_LIST', 'EMPTY_SET', 'EMPTY_TUPLE', 'FRAME', 'FROZENSET',
    'GLOBAL', 'LONG1', 'LONG4', 'LONG_BINGET', 'LONG_BINPUT', 'MARK', 'MEMOIZE', 'NEWFALSE',
    'NEWOBJ', 'NEWTRUE', 'NONE', 'POP', 'POP_MARK', 'PROTO', 'REDUCE', 'SETITEM', 'SETITEMS',
    'SHORT_BINBYTES', 'SHORT_BINSTRING', 'SHORT_BINUNICODE', 'STACK_GLOBAL', 'TUPLE', 'TUPLE1',
    'TUPLE2', 'TUPLE3',
}
# fmt: on
_OPCODES = {op.code: op for op in pickletools.opcodes if op.name in _KNOWN_OPCODES}
_OPCODE_NAMES = {op.code: op.name for op in pickletools.opcodes}


def read_opcodes(data: bytes) -> Iterator[tuple[str, Any]]:
    """The name and argument of each opcode before the pickle's end.

    Raises:
        CheckpointError: An opcode that ``torch.save`` never writes; its argument is not decoded.
        Exception: Whatever the decoder of a mutilated argument raises.
    """
    file = io.BytesIO(data)
    while (code := file.read(1).decode('latin1')) != '.':
        need(code != '', 'it has no end')
        opcode = _OPCODES.get(code)
        if opcode is None:
            name = _OPCODE_NAMES.get(code, f'opcode {code!r}')
            raise CheckpointError(f'the pickle uses {name}, which torch.save never writes')
        arg = None
        if opcode.name == 'GLOBAL':
            # Not pickletools' own reader: that one undoes escapes, which pickle does not.
            arg = tuple(file.readline().decode().removesuffix('\n') for _ in range(2))
        elif opcode.arg is not None:
            arg = opcode.arg.reader(file)
        yield opcode.name, arg


def names_in(data: bytes) -> Iterator[str]:
    """The globals (``module.name``) that a pickle names, as far as it can be followed."""
    strings = ['', '']
    try:
        for opcode, arg in read_opcodes(data):
            if opcode == 'GLOBAL':
                yield '.'.join(arg)
            elif opcode == 'STACK_GLOBAL':
                yield '.'.join(strings)
            elif isinstance(arg, str):
                strings = [strings[1], arg]
    except Exception:
        return  # a mutilated pickle
