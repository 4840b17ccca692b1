"""What stands for the functions that a pickle calls; those of the file are never run."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from mmkd.checkpoints.ultralytics.errors import MALFORMED, EndlessError, need
from mmkd.checkpoints.ultralytics.inert_objects import Bag, Refused, StorageRef, TensorRef

_NUMPY_SCALARS = {f'{kind}{size}' for kind in 'iu' for size in (1, 2, 4, 8)} | {
    'f2',
    'f4',
    'f8',
    'b1',
}
# Only scalars may be keys or set members: hashing a nested tuple that shares its parts takes time
# exponential in its depth.
_MAX_KEY_PARTS = 10_000
_HASHABLE = (str, int, float, bool, bytes, type(None))


def set_item(target: dict[str, Any], key: Any, value: Any) -> None:
    """Set a key; one that is no scalar becomes a :class:`Refused`."""
    target[_hashable(key, f'a {type(key).__name__} as key of a dict')] = value


def _hashable(value: Any, what: str) -> Any:
    # Python hashes a tuple that shares its parts once for each path to them.
    todo, count = [value], 0
    while todo:
        part = todo.pop()
        count += 1
        if count > _MAX_KEY_PARTS:
            raise EndlessError(f'{MALFORMED}{what}, which would take for ever to hash')
        if isinstance(part, tuple):
            todo += part
    return value if isinstance(value, _HASHABLE) else Refused(f'{MALFORMED}{what}')


def _ints(value: Any) -> tuple[int, ...]:
    need(isinstance(value, tuple), f'a shape must be a tuple, got {type(value).__name__}')
    need(all(type(item) is int and item >= 0 for item in value), 'a shape holds sizes below 0')
    return tuple(value)


def _ordered_dict(items: Any = ()) -> OrderedDict[str, Any]:
    need(type(items) in (list, tuple), 'OrderedDict takes a list of pairs')
    result: OrderedDict[str, Any] = OrderedDict()
    for pair in items:
        need(type(pair) in (list, tuple) and len(pair) == 2, 'OrderedDict takes pairs')
        set_item(result, *pair)
    return result


def plain_set(items: Any = ()) -> set[Any]:
    """A set of a list of scalars."""
    need(type(items) in (list, tuple), 'set takes a list')
    return {_hashable(item, 'a set may hold scalars only') for item in items}


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> TensorRef:
    need(isinstance(storage, StorageRef), 'a tensor without a storage')
    need(type(offset) is int and offset >= 0, 'a tensor with a negative offset')
    size, stride = _ints(size), _ints(stride)
    need(len(size) == len(stride) <= 8, 'a tensor whose shape and strides differ in length')
    return TensorRef(storage, offset, size, stride)


def _parameter(data: Any, *_: Any) -> TensorRef:
    need(isinstance(data, TensorRef), 'a parameter that is no tensor')
    return data


def _device(*parts: Any) -> str:
    # As text: which device wrote the file is of no use here, and may not exist.
    return ':'.join(_texts(parts))


def _path(*parts: Any) -> str:
    return '/'.join(_texts(parts))


def _texts(parts: tuple[Any, ...]) -> list[str]:
    need(all(type(part) in (str, int) for part in parts), 'a path or device takes text')
    return [str(part) for part in parts]


def _encode(text: Any, encoding: Any = 'latin1') -> bytes:
    # How protocol 2 writes bytes.
    need(type(text) is str and encoding in ('latin1', 'latin-1'), 'bytes must be latin1 text')
    return text.encode('latin1')


def _bytes(*args: Any) -> bytes:
    need(not args, 'bytes() takes nothing here')
    return b''


def _numpy_scalar(dtype: Any, data: Any) -> Any:
    import numpy as np

    need(isinstance(dtype, Bag) and dtype.name == 'numpy.dtype', 'a NumPy scalar without a dtype')
    code = dtype.args[0] if dtype.args else None
    need(type(code) is str and code in _NUMPY_SCALARS, 'a NumPy scalar that is no plain number')
    little = type(dtype.state) is tuple and dtype.state[1:2] in (('<',), ('|',))
    need(dtype.state is None or little, 'a NumPy scalar that is not little-endian')
    kind = np.dtype(f'<{code}')
    need(type(data) is bytes and len(data) == kind.itemsize, 'a NumPy scalar of the wrong length')
    return np.frombuffer(data, kind)[0].item()


#: By the name that the file gives.
CALLS: dict[str, Callable[..., Any]] = {
    'builtins.set': plain_set,
    'builtins.frozenset': plain_set,
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
