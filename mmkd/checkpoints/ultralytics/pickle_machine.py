"""``PickleMachine``: interprets a pickle's opcodes without importing or calling what it names.

``pickle.Unpickler`` (and every subclass of it) calls what the file asks for and relies on a filter
for safety. Here a global is looked up in tables and never imported, ``REDUCE`` runs one of the
functions of :mod:`mmkd.checkpoints.ultralytics.inert_calls`, and ``BUILD`` only stores the state on
an inert :class:`Bag`. So a name that got past the tables would still be nothing but text.

What is in no table becomes a :class:`Refused` that keeps the reason: an error where the caller
needs that part of the file, and of no account where it does not.
"""

import re
from collections import OrderedDict
from collections.abc import Collection
from typing import Any

import torch

from mmkd.checkpoints.foreign import family_of
from mmkd.checkpoints.ultralytics.errors import MALFORMED, CheckpointError, EndlessError, need
from mmkd.checkpoints.ultralytics.inert_calls import CALLS, plain_set, set_item
from mmkd.checkpoints.ultralytics.inert_objects import (
    Bag,
    Name,
    Refused,
    StorageRef,
    TensorRef,
)
from mmkd.checkpoints.ultralytics.opcodes import read_opcodes

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


class PickleMachine:
    """The pickle machine's stack, marks and memo.

    Args:
        bag_names: Classes (``module.name``) that may occur, rebuilt as :class:`Bag`.

    Attributes:
        storages: The storages that the pickle has claimed so far.
        attacks: What it named so far that only an attack would.
    """

    def __init__(self, bag_names: Collection[str]) -> None:
        self._bag_names = bag_names
        self._stack: list[Any] = []
        self._marks: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self.storages: list[StorageRef] = []
        self.attacks: list[Refused] = []

    def run(self, data: bytes) -> Any:
        """What the pickle holds.

        Raises:
            CheckpointError: It is malformed.
            Exception: Whatever a mutilated pickle makes Python raise.
        """
        for opcode, arg in read_opcodes(data):
            self._step(opcode, arg)
        return self._stack.pop()

    def _step(self, opcode: str, arg: Any) -> None:
        stack = self._stack
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
                need(len(stack) >= count, 'a tuple of nothing')
                stack[-count:] = [tuple(stack[-count:])]
            case 'MARK':
                self._marks.append(stack)
                self._stack = []
            case 'TUPLE':
                items = self._pop_mark()
                self._stack.append(tuple(items))
            case 'FROZENSET':
                items = self._pop_mark()
                self._stack.append(plain_set(items))
            case 'POP':
                stack.pop()
            case 'POP_MARK':
                self._pop_mark()
            case 'APPEND':
                item = stack.pop()
                self._top(list).append(item)
            case 'APPENDS':
                items = self._pop_mark()
                self._top(list).extend(items)
            case 'ADDITEMS':
                items = self._pop_mark()
                self._top(set).update(plain_set(items))
            case 'SETITEM':
                value, key = stack.pop(), stack.pop()
                set_item(self._top(dict), key, value)
            case 'SETITEMS':
                items = self._pop_mark()
                target = self._top(dict)
                need(len(items) % 2 == 0, 'a dict with a key that has no value')
                for key, value in zip(items[::2], items[1::2], strict=True):
                    set_item(target, key, value)
            case 'BINPUT' | 'LONG_BINPUT':
                self._memo[arg] = stack[-1]
            case 'MEMOIZE':
                self._memo[len(self._memo)] = stack[-1]
            case 'BINGET' | 'LONG_BINGET':
                need(arg in self._memo, 'a reference to nothing')
                stack.append(self._memo[arg])
            case 'GLOBAL':
                stack.append(self._look_up(*arg))
            case 'STACK_GLOBAL':
                name, module = stack.pop(), stack.pop()
                need(type(name) is str and type(module) is str, 'a global that is not named')
                stack.append(self._look_up(module, name))
            case 'REDUCE':
                args, call = stack.pop(), stack.pop()
                stack.append(self._call(call, args))
            case 'NEWOBJ':
                args, call = stack.pop(), stack.pop()
                stack.append(self._new(call, args))
            case 'BUILD':
                state = stack.pop()
                self._build(state)
            case 'BINPERSID':
                stack.append(self._storage(stack.pop()))

    def _pop_mark(self) -> list[Any]:
        items = self._stack
        self._stack = self._marks.pop()
        return items

    def _top(self, kind: type) -> Any:
        target = self._stack[-1]
        if isinstance(target, Refused):
            return kind()
        need(isinstance(target, kind), f'items added to what is no {kind.__name__}')
        return target

    def _look_up(self, module: str, name: str) -> Any:
        text = f'{_RENAMED_MODULES.get(module, module)}.{name}'
        if text in STORAGE_DTYPES:
            return STORAGE_DTYPES[text]
        if text in _DTYPES:
            return _DTYPES[text]
        if text in CALLS or text in self._bag_names or text == 'numpy.ndarray':
            return Name(text)
        unknown = Refused(
            f'the file asks for {text[:200]!r}{_of(text)}: only tensors, plain containers and the '
            'known layers are read, and nothing is run. If you trust the file, save its state dict '
            'with the program that wrote it.'
        )
        if _ATTACKS.fullmatch(text):
            self.attacks.append(unknown)
        return unknown

    def _new(self, call: Any, args: Any) -> Any:
        if isinstance(call, Refused):
            return call
        known = isinstance(call, Name) and call.text in self._bag_names
        need(known, 'an object of something that is no known class')
        need(args == (), 'an object made with arguments')
        return Bag(call.text)

    def _call(self, call: Any, args: Any) -> Any:
        if isinstance(call, Refused):
            return call
        need(isinstance(call, Name), f'a call of a {type(call).__name__}')
        need(type(args) is tuple, f'a call of {call.text} without a tuple of arguments')
        if call.text not in CALLS:
            raise CheckpointError(f'the file calls {call.text}, which is never called here')
        try:
            return CALLS[call.text](*args)
        except EndlessError:
            raise
        except CheckpointError as error:
            return Refused(str(error))
        except Exception as error:
            return Refused(f'{MALFORMED}{error!s:.200}')

    def _build(self, state: Any) -> None:
        target = self._stack[-1]
        # torch.save gives a state dict an attribute with its version numbers: of no use here.
        if type(target) is OrderedDict or isinstance(target, Refused | TensorRef):
            return
        need(isinstance(target, Bag), f'a state for a {type(target).__name__}')
        need(type(state) in (dict, tuple), f'a state that is a {type(state).__name__}')
        target.state = state

    def _storage(self, claim: Any) -> StorageRef | Refused:
        if isinstance(claim, Refused):
            return claim
        need(type(claim) is tuple and len(claim) == 5, 'a persistent id that is no storage')
        kind, dtype, key, _, numel = claim
        if isinstance(dtype, Refused):
            return dtype
        need(kind == 'storage' and isinstance(dtype, torch.dtype), 'a storage without a type')
        need(type(key) is str and type(numel) is int and numel >= 0, 'a storage without a size')
        self.storages.append(StorageRef(key, dtype, numel))
        return self.storages[-1]


def _of(name: str) -> str:
    family = family_of([name])
    return f' ({family})' if family else ''
