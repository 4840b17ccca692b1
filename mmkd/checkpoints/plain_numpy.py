"""NumPy's numbers and arrays out of a checkpoint, without the parts of NumPy that trust a pickle.

``numpy.dtype.__setstate__`` and ``numpy.ndarray.__setstate__`` take sizes, flags and fields as a
pickle gives them: a crafted file reaches the process' memory. What stands here for their names
takes plain numbers and text of the right length, and nothing else.
"""

import math
import pickle
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

_CODE = re.compile(r'b1|[iu][1248]|f[248]|c(8|16)|[SU]\d{1,6}')


def _need(condition: bool, what: str) -> None:
    if not condition:
        raise pickle.UnpicklingError(f'A checkpoint may hold plain NumPy numbers only; {what}')


class PlainDtype:
    """Stands for ``numpy.dtype``: the dtype of a number or a text."""

    def __init__(self, code: Any, *_: Any) -> None:
        _need(isinstance(code, str) and _CODE.fullmatch(code) is not None, 'another dtype came')
        self.code, self.order = code, '|'

    def __setstate__(self, state: Any) -> None:
        known = isinstance(state, tuple) and len(state) >= 5 and state[2:5] == (None, None, None)
        _need(known and state[1] in ('<', '>', '|', '='), 'a dtype with parts came')
        self.order = state[1]

    @property
    def real(self) -> np.dtype[Any]:
        """The dtype[Any] itself."""
        return np.dtype(self.order + self.code)


class PlainArray(NDArray[Any]):
    """Stands for ``numpy.ndarray``: an array like any other, and saved as one."""

    def __new__(cls, *_: Any) -> 'PlainArray':
        """An empty array, which its state then fills."""
        return super().__new__(cls, (0,), np.uint8)

    def __setstate__(self, state: Any) -> None:
        _need(isinstance(state, tuple) and len(state) == 5, 'an array without a state came')
        _, shape, dtype, fortran, data = state
        sizes = isinstance(shape, tuple) and all(type(n) is int and n >= 0 for n in shape)
        _need(sizes and isinstance(dtype, PlainDtype), 'an array of something else came')
        data = _bytes(data)
        expected = math.prod(shape) * dtype.real.itemsize
        _need(len(data) == expected, f'an array of {expected} bytes came with {len(data)}')
        base: Any = super()
        base.__setstate__((1, shape, dtype.real, bool(fortran), data))

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.view(np.ndarray).__reduce_ex__(protocol)

    def __reduce__(self) -> Any:
        return self.view(np.ndarray).__reduce__()


def plain_array(*_: Any) -> PlainArray:
    """Stands for ``numpy.core.multiarray._reconstruct``: an array that is given its state next."""
    return PlainArray()


def plain_scalar(dtype: Any, data: Any = b'') -> Any:
    """Stands for ``numpy.core.multiarray.scalar``: one number or text."""
    _need(isinstance(dtype, PlainDtype), 'a number without a dtype came')
    data = _bytes(data)
    _need(len(data) == dtype.real.itemsize > 0, f'a number of {len(data)} bytes came')
    return np.frombuffer(data, dtype.real)[0]


def plain_buffer(data: Any, dtype: Any, shape: Any, order: Any, *_: Any) -> NDArray[Any]:
    """Stands for ``numpy.core.numeric._frombuffer``: how pickles of protocol 5 hold an array."""
    array = PlainArray()
    array.__setstate__((1, shape, dtype, order == 'F', _bytes(data)))
    return array.view(np.ndarray)


def no_bytes(*content: Any) -> bytes:
    """Stands for ``bytes``, by which a pickle says that an array is empty."""
    _need(not content, 'bytes of something came')
    return b''


def _bytes(data: Any) -> bytes:
    _need(isinstance(data, bytes | bytearray | str), f'its content is a {type(data).__name__}')
    return data.encode('latin1') if isinstance(data, str) else bytes(data)
