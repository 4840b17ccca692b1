"""Reads a pickle without importing or calling anything that it names.

``pickle.Unpickler`` (and every subclass of it) calls what the file asks for and relies on a filter
for safety. Here the opcodes are interpreted instead: a global is looked up in the tables below and
never imported, ``REDUCE`` runs one of this module's own functions, and ``BUILD`` only stores the
state on an inert :class:`Bag`. So a name that got past the tables would still be nothing but text.

What is in no table becomes a :class:`Refused` that keeps the reason: an error where the caller
needs that part of the file, and of no account where it does not.
"""

import io
import pickletools
import re
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from mmkd.checkpoints.foreign import family_of
from mmkd.checkpoints.ultralytics.errors import CheckpointError

STORAGE_DTYPES = {
    'torch.DoubleStorage': torch.float64,
    'torch.FloatStorage': torch.float32,
    'torch.HalfStorage': torch.float16,
    'torch.BFloat16Storage': torch.bfloat16,
    'torch.LongStorage': torch.int64,
    'torch.IntStorage': torch.int32,
    'torch.ShortStorage': torch.int16,
    'torch.CharStorage': torch.int8,
    'torch.ByteStorage': torch.uint8,
    'torch.BoolStorage': torch.bool,
    'torch.ComplexFloatStorage': torch.complex64,
    'torch.ComplexDoubleStorage': torch.complex128,
    'torch.storage.UntypedStorage': torch.uint8,
}
_DTYPES = {str(dtype): dtype for dtype in STORAGE_DTYPES.values()}
_NUMPY_SCALARS = {f'{kind}{size}' for kind in 'iu' for size in (1, 2, 4, 8)} | {
    'f2',
    'f4',
    'f8',
    'b1',
}
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
# One name for what different Python and NumPy versions write.
_RENAMED_MODULES = {
    '__builtin__': 'builtins',
    'numpy._core.multiarray': 'numpy.core.multiarray',
    'pathlib._local': 'pathlib',
}
# No program keeps these in a checkpoint: a file that names one is refused whatever is read of it.
_ATTACKS = re.compile(
    r'(os|posix|nt|subprocess|sys|shutil|socket|runpy|importlib|pickle|_pickle|pty|ctypes|code'
    r'|webbrowser)\..*|builtins\.(eval|exec|compile|__import__|open|setattr)'
)
# Only scalars may be keys or set members: hashing a nested tuple that shares its parts takes time
# exponential in its depth.
_MAX_KEY_PARTS = 10_000
_HASHABLE = (str, int, float, bool, bytes, type(None))


@dataclass(frozen=True, eq=False)
class Name:
    """A callable that the file named: text, looked up in a table, never imported."""

    text: str


@dataclass(eq=False)
class Bag:
    """What is left of an object: the name of its class and the state that the file gives it."""

    name: str
    args: tuple[Any, ...] = ()
    state: Any = None


@dataclass(frozen=True, eq=False)
class Refused:
    """What stands for an object that is not read, with the reason."""

    reason: str


@dataclass(frozen=True, eq=False)
class StorageRef:
    """A claim about a storage in the archive; checked when it is read."""

    key: str
    dtype: torch.dtype
    numel: int


@dataclass(frozen=True, eq=False)
class TensorRef:
    """A claim about a view of a storage; checked when it is read."""

    storage: StorageRef
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def read_opcodes(data: bytes) -> Iterator[tuple[str, Any]]:
    """The name and argument of each opcode before the pickle's end.

    Raises:
        CheckpointError: An opcode that ``torch.save`` never writes; its argument is not decoded.
        Exception: Whatever the decoder of a mutilated argument raises.
    """
    file = io.BytesIO(data)
    while (code := file.read(1).decode('latin1')) != '.':
        _need(code != '', 'it has no end')
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


_MALFORMED = 'the pickle is malformed: '


def _need(condition: bool, what: str) -> None:
    if not condition:
        raise CheckpointError(f'{_MALFORMED}{what}')


def _ints(value: Any) -> tuple[int, ...]:
    _need(isinstance(value, tuple), f'a shape must be a tuple, got {type(value).__name__}')
    _need(all(type(item) is int and item >= 0 for item in value), 'a shape holds sizes below 0')
    return tuple(value)


def _ordered_dict(items: Any = ()) -> OrderedDict[str, Any]:
    _need(type(items) in (list, tuple), 'OrderedDict takes a list of pairs')
    result: OrderedDict[str, Any] = OrderedDict()
    for pair in items:
        _need(type(pair) in (list, tuple) and len(pair) == 2, 'OrderedDict takes pairs')
        _set_item(result, *pair)
    return result


def _set(items: Any = ()) -> set[Any]:
    _need(type(items) in (list, tuple), 'set takes a list')
    return {_hashable(item, 'a set may hold scalars only') for item in items}


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> TensorRef:
    _need(isinstance(storage, StorageRef), 'a tensor without a storage')
    _need(type(offset) is int and offset >= 0, 'a tensor with a negative offset')
    size, stride = _ints(size), _ints(stride)
    _need(len(size) == len(stride) <= 8, 'a tensor whose shape and strides differ in length')
    return TensorRef(storage, offset, size, stride)


def _parameter(data: Any, *_: Any) -> TensorRef:
    _need(isinstance(data, TensorRef), 'a parameter that is no tensor')
    return data


def _device(*parts: Any) -> str:
    # As text: which device wrote the file is of no use here, and may not exist.
    return ':'.join(_texts(parts))


def _path(*parts: Any) -> str:
    return '/'.join(_texts(parts))


def _texts(parts: tuple[Any, ...]) -> list[str]:
    _need(all(type(part) in (str, int) for part in parts), 'a path or device takes text')
    return [str(part) for part in parts]


def _encode(text: Any, encoding: Any = 'latin1') -> bytes:
    # How protocol 2 writes bytes.
    _need(type(text) is str and encoding in ('latin1', 'latin-1'), 'bytes must be latin1 text')
    return text.encode('latin1')


def _bytes(*args: Any) -> bytes:
    _need(not args, 'bytes() takes nothing here')
    return b''


def _numpy_scalar(dtype: Any, data: Any) -> Any:
    import numpy as np

    _need(isinstance(dtype, Bag) and dtype.name == 'numpy.dtype', 'a NumPy scalar without a dtype')
    code = dtype.args[0] if dtype.args else None
    _need(type(code) is str and code in _NUMPY_SCALARS, 'a NumPy scalar that is no plain number')
    little = type(dtype.state) is tuple and dtype.state[1:2] in (('<',), ('|',))
    _need(dtype.state is None or little, 'a NumPy scalar that is not little-endian')
    kind = np.dtype(f'<{code}')
    _need(type(data) is bytes and len(data) == kind.itemsize, 'a NumPy scalar of the wrong length')
    return np.frombuffer(data, kind)[0].item()


_CALLS: dict[str, Callable[..., Any]] = {
    'builtins.set': _set,
    'builtins.frozenset': _set,
    'builtins.bytes': _bytes,
    'collections.OrderedDict': _ordered_dict,
    '_codecs.encode': _encode,
    'torch.Size': _ints,
    'torch.device': _device,
    'torch._utils._rebuild_tensor_v2': _tensor,
    'torch._utils._rebuild_parameter': _parameter,
    'torch._utils._rebuild_parameter_with_state': _parameter,
    'numpy.dtype': lambda *args: Bag('numpy.dtype', args),
    'numpy.core.multiarray.scalar': _numpy_scalar,
    # A NumPy array stays a bag: nothing in a checkpoint's weights is one.
    'numpy.core.multiarray._reconstruct': lambda *_: Bag('numpy.ndarray'),
    **{f'pathlib.{kind}Path': _path for kind in ('Posix', 'Windows', 'PurePosix', 'PureWindows')},
}


def _set_item(target: dict[str, Any], key: Any, value: Any) -> None:
    target[_hashable(key, f'a {type(key).__name__} as key of a dict')] = value


class EndlessError(CheckpointError):
    """A pickle that would keep any reader busy for ever."""


def _hashable(value: Any, what: str) -> Any:
    # Python hashes a tuple that shares its parts once for each path to them.
    todo, count = [value], 0
    while todo:
        part = todo.pop()
        count += 1
        if count > _MAX_KEY_PARTS:
            raise EndlessError(f'{_MALFORMED}{what}, which would take for ever to hash')
        if isinstance(part, tuple):
            todo += part
    return value if isinstance(value, _HASHABLE) else Refused(f'{_MALFORMED}{what}')


class _Machine:
    """The pickle machine's stack, marks and memo."""

    def __init__(self, bag_names: Collection[str]) -> None:
        self.bag_names = bag_names
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.storages: list[StorageRef] = []
        self.attacks: list[Refused] = []

    def run(self, data: bytes) -> Any:
        for opcode, arg in read_opcodes(data):
            self.step(opcode, arg)
        return self.stack.pop()

    def step(self, opcode: str, arg: Any) -> None:
        stack = self.stack
        match opcode:
            case 'PROTO' | 'FRAME':
                pass
            case 'BININT' | 'BININT1' | 'BININT2' | 'LONG1' | 'LONG4' | 'BINFLOAT':
                stack.append(arg)
            case 'BINUNICODE' | 'SHORT_BINUNICODE' | 'BINUNICODE8':
                stack.append(arg)
            case 'SHORT_BINBYTES' | 'BINBYTES' | 'BINBYTES8' | 'SHORT_BINSTRING' | 'BINSTRING':
                stack.append(arg)
            case 'NONE':
                stack.append(None)
            case 'NEWTRUE' | 'NEWFALSE':
                stack.append(opcode == 'NEWTRUE')
            case 'EMPTY_DICT':
                stack.append({})
            case 'EMPTY_LIST':
                stack.append([])
            case 'EMPTY_SET':
                stack.append(set())
            case 'EMPTY_TUPLE':
                stack.append(())
            case 'TUPLE1' | 'TUPLE2' | 'TUPLE3':
                count = int(opcode[-1])
                _need(len(stack) >= count, 'a tuple of nothing')
                stack[-count:] = [tuple(stack[-count:])]
            case 'MARK':
                self.marks.append(stack)
                self.stack = []
            case 'TUPLE':
                items = self.pop_mark()
                self.stack.append(tuple(items))
            case 'FROZENSET':
                items = self.pop_mark()
                self.stack.append(_set(items))
            case 'POP':
                stack.pop()
            case 'POP_MARK':
                self.pop_mark()
            case 'APPEND':
                item = stack.pop()
                self.top(list).append(item)
            case 'APPENDS':
                items = self.pop_mark()
                self.top(list).extend(items)
            case 'ADDITEMS':
                items = self.pop_mark()
                self.top(set).update(_set(items))
            case 'SETITEM':
                value, key = stack.pop(), stack.pop()
                _set_item(self.top(dict), key, value)
            case 'SETITEMS':
                items = self.pop_mark()
                target = self.top(dict)
                _need(len(items) % 2 == 0, 'a dict with a key that has no value')
                for key, value in zip(items[::2], items[1::2], strict=True):
                    _set_item(target, key, value)
            case 'BINPUT' | 'LONG_BINPUT':
                self.memo[arg] = stack[-1]
            case 'MEMOIZE':
                self.memo[len(self.memo)] = stack[-1]
            case 'BINGET' | 'LONG_BINGET':
                _need(arg in self.memo, 'a reference to nothing')
                stack.append(self.memo[arg])
            case 'GLOBAL':
                stack.append(self.look_up(*arg))
            case 'STACK_GLOBAL':
                name, module = stack.pop(), stack.pop()
                _need(type(name) is str and type(module) is str, 'a global that is not named')
                stack.append(self.look_up(module, name))
            case 'REDUCE':
                args, call = stack.pop(), stack.pop()
                stack.append(self.call(call, args))
            case 'NEWOBJ':
                args, call = stack.pop(), stack.pop()
                stack.append(self.new(call, args))
            case 'BUILD':
                state = stack.pop()
                self.build(state)
            case 'BINPERSID':
                stack.append(self.storage(stack.pop()))

    def pop_mark(self) -> list[Any]:
        items = self.stack
        self.stack = self.marks.pop()
        return items

    def top(self, kind: type) -> Any:
        target = self.stack[-1]
        if isinstance(target, Refused):
            return kind()
        _need(isinstance(target, kind), f'items added to what is no {kind.__name__}')
        return target

    def look_up(self, module: str, name: str) -> Any:
        text = f'{_RENAMED_MODULES.get(module, module)}.{name}'
        if text in STORAGE_DTYPES:
            return STORAGE_DTYPES[text]
        if text in _DTYPES:
            return _DTYPES[text]
        if text in _CALLS or text in self.bag_names or text == 'numpy.ndarray':
            return Name(text)
        unknown = Refused(
            f'the file asks for {text[:200]!r}{_of(text)}: only tensors, plain containers and the '
            'known layers are read, and nothing is run. If you trust the file, save its state dict '
            'with the program that wrote it.'
        )
        if _ATTACKS.fullmatch(text):
            self.attacks.append(unknown)
        return unknown

    def new(self, call: Any, args: Any) -> Any:
        if isinstance(call, Refused):
            return call
        known = isinstance(call, Name) and call.text in self.bag_names
        _need(known, 'an object of something that is no known class')
        _need(args == (), 'an object made with arguments')
        return Bag(call.text)

    def call(self, call: Any, args: Any) -> Any:
        if isinstance(call, Refused):
            return call
        _need(isinstance(call, Name), f'a call of a {type(call).__name__}')
        _need(type(args) is tuple, f'a call of {call.text} without a tuple of arguments')
        if call.text not in _CALLS:
            raise CheckpointError(f'the file calls {call.text}, which is never called here')
        try:
            return _CALLS[call.text](*args)
        except EndlessError:
            raise
        except CheckpointError as error:
            return Refused(str(error))
        except Exception as error:
            return Refused(f'{_MALFORMED}{error!s:.200}')

    def build(self, state: Any) -> None:
        target = self.stack[-1]
        # torch.save gives a state dict an attribute with its version numbers: of no use here.
        if type(target) is OrderedDict or isinstance(target, Refused | TensorRef):
            return
        _need(isinstance(target, Bag), f'a state for a {type(target).__name__}')
        _need(type(state) in (dict, tuple), f'a state that is a {type(state).__name__}')
        target.state = state

    def storage(self, claim: Any) -> StorageRef | Refused:
        if isinstance(claim, Refused):
            return claim
        _need(type(claim) is tuple and len(claim) == 5, 'a persistent id that is no storage')
        kind, dtype, key, _, numel = claim
        if isinstance(dtype, Refused):
            return dtype
        _need(kind == 'storage' and isinstance(dtype, torch.dtype), 'a storage without a type')
        _need(type(key) is str and type(numel) is int and numel >= 0, 'a storage without a size')
        self.storages.append(StorageRef(key, dtype, numel))
        return self.storages[-1]


def read_pickle(
    data: bytes,
    bag_names: Collection[str] = (),
    part: Callable[[Any], Any] = lambda content: content,
) -> Any:
    """Reads a pickle into plain containers, tensor references and inert bags.

    Args:
        data: The pickle.
        bag_names: Classes (``module.name``) that may occur, rebuilt as :class:`Bag`.
        part: Picks from the content what the caller is going to use; the rest may hold instances of
            any class, which are :class:`Refused` in what is returned. By default all is used.

    Raises:
        CheckpointError: The pickle is malformed, names anything else in that part, or names what
            only an attack would, wherever.
    """
    machine = _Machine(bag_names)
    content = _run(machine, data)
    _check_known(part(content))
    for attack in machine.attacks:
        raise CheckpointError(attack.reason)
    return content


def storages_of(data: bytes) -> list[StorageRef]:
    """The storages that a pickle claims to be in its archive, as far as it can be followed.

    Raises:
        EndlessError: It would keep any reader busy for ever.
    """
    machine = _Machine(())
    try:
        _run(machine, data)
    except EndlessError:
        raise
    except CheckpointError:
        pass  # whoever reads all of it says what is wrong
    return machine.storages


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


def _of(name: str) -> str:
    family = family_of([name])
    return f' ({family})' if family else ''


def _check_known(value: Any) -> None:
    # Each object once, and without recursion: parts may be shared, or nested without end.
    seen: set[int] = set()
    todo = [value]
    while todo:
        value = todo.pop()
        if isinstance(value, Refused):
            raise CheckpointError(value.reason)
        identity = object.__hash__(value)  # of the object, also where its type has no hash
        if identity in seen:
            continue
        seen.add(identity)
        if isinstance(value, dict):
            todo += [*value.keys(), *value.values()]
        elif isinstance(value, list | tuple | set):
            todo += value
        elif isinstance(value, Bag):
            todo += [value.args, value.state]


def _run(machine: _Machine, data: bytes) -> Any:
    try:
        return machine.run(data)
    except CheckpointError:
        raise
    # A mutilated pickle can go wrong anywhere in the decoder (ValueError, IndexError, TypeError,
    # OverflowError, ...); for the user each of these means the same.
    except Exception as error:
        raise CheckpointError(f'{_MALFORMED}{error!s:.200}') from error
