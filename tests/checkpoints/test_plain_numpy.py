"""NumPy's values in a checkpoint: read as they were, or refused where a file is crafted."""

import io
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmkd.checkpoints.plain_numpy import PlainArray

KINDS = ['?', 'i1', 'u1', 'i2', '<u4', '>i4', 'i8', 'f2', 'f4', '>f8', 'c8', 'S3', 'U2']


def through_a_file(value):
    buffer = io.BytesIO()
    torch.save(value, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


@given(
    kind=st.sampled_from(KINDS),
    shape=st.lists(st.integers(0, 3), max_size=3),
    order=st.sampled_from('CF'),
    data=st.data(),
)
def test_arrays_and_numbers_are_as_they_were(kind, shape, order, data):
    numbers = data.draw(st.lists(st.integers(0, 9), min_size=27, max_size=27))
    array = np.array(numbers)[: int(np.prod(shape))].reshape(shape).astype(kind, order=order)
    loaded, again = through_a_file(array), through_a_file(through_a_file(array))
    for found in (loaded, again):
        assert isinstance(found, np.ndarray)
        native = array.dtype.newbyteorder('=')  # NumPy turns the bytes as it reads
        assert (found.dtype, found.shape) == (native, array.shape)
        assert found.tolist() == array.tolist()
    if array.size:
        number = array.flat[0]
        assert through_a_file(number) == number and type(through_a_file(number)) is type(number)
    # what is saved of it says nothing of mmkd
    assert b'mmkd' not in pickle.dumps(loaded) + pickle.dumps(loaded.T, 5)


class Made:
    """Pickles as a call, and a state."""

    def __init__(self, *parts):
        self.parts = parts

    def __reduce__(self):
        return self.parts


FLOAT = (np.dtype, ('f8', False, True))
ARRAY = (np.ndarray.__reduce__(np.zeros(1))[0], (np.ndarray, (0,), b'b'))
SCALAR = np.float64(0).__reduce__()[0]


@pytest.mark.parametrize(
    'crafted',
    [
        # sizes, flags, fields and objects, as a pickle wants them
        Made(*FLOAT, (3, '<', None, ('a',), {'a': (Made(np.dtype, ('O',)), 0)}, 8, 1, 0)),
        Made(*FLOAT, (3, '<', (Made(*FLOAT), (1 << 40,)), None, None, -1, -1, 0)),
        Made(*FLOAT, (3, 'x', None, None, None, -1, -1, 0)),
        Made(*FLOAT, 'state'),
        Made(np.dtype, ('O8', False, True)),
        Made(np.dtype, ('V8', False, True)),
        Made(np.dtype, ('f8,f8', False, True)),
        Made(np.dtype, ([('a', 'O')],)),
        Made(np.dtype, ('U99999999',)),
        Made(*ARRAY, (1, (1 << 60,), np.dtype('f8'), False, b'')),
        Made(*ARRAY, (1, (2,), np.dtype('f8'), False, bytes(15))),
        Made(*ARRAY, (1, (-1,), np.dtype('f8'), False, bytes(8))),
        Made(*ARRAY, (1, (1,), 'f8', False, bytes(8))),
        Made(*ARRAY, (1, (1,), np.dtype('f8'), False, [1])),
        Made(*ARRAY, (1, (1,))),
        Made(SCALAR, (np.dtype('f8'), bytes(4))),
        Made(SCALAR, (np.dtype('f8'), 3)),
        Made(SCALAR, ('f8', bytes(8))),
        Made(SCALAR, (np.dtype('f8'),)),
        Made(bytes, (1 << 40,)),
        np.array([{}], dtype=object),
        np.zeros(1, dtype=[('a', 'f8')]),
    ],
)
def test_what_is_crafted_is_refused(crafted):
    with pytest.raises(pickle.UnpicklingError):
        through_a_file(crafted)


def test_a_class_of_arrays_makes_none_of_a_given_size():
    assert PlainArray((1 << 40,)).shape == (0,)
    assert through_a_file(Made(np.ndarray, ((1 << 40,),))).shape == (0,)
