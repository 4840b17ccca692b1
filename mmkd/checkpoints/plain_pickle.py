"""Pickles and YAML of annotations, proposals and results: read as data, nothing in them is run.

mmengine's ``load`` would call whatever a ``.pkl`` or ``.yaml`` file asks for.
"""

import codecs
import datetime
import decimal
import importlib
import io
import pickle
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import torch
import yaml
from mmengine.config import ConfigDict

from mmkd.checkpoints.foreign import shown
from mmkd.checkpoints.plain_numpy import (
    PlainDtype,
    no_bytes,
    plain_array,
    plain_buffer,
    plain_scalar,
)

_REMEDY = (
    'Nothing of it was run. Write it anew as JSON, or of numbers, text and arrays; if you trust '
    'it, read it with {} in a data set class of your own.'
)


# Protocols 0 to 2 name modules as Python 2 did.
_OF_PYTHON_2 = {'__builtin__': 'builtins', 'copy_reg': 'copyreg'}
_TIMES = ('datetime', 'date', 'time', 'timedelta', 'timezone')


class PlainFileError(ValueError):
    """A file that asks for more than data."""


class _Call:
    """What stands for a function or class that a pickle names: to be called, not to be changed."""

    __slots__ = ('function',)
    function: Callable[..., Any]

    def __init__(self, function: Callable[..., Any]) -> None:
        object.__setattr__(self, 'function', function)

    def __call__(self, *args: Any) -> Any:
        return self.function(*args)

    def __setattr__(self, *_: Any) -> None:
        raise pickle.UnpicklingError('a state for what has none')


class _Locked(type):
    """The type of stand-ins for classes: a pickle's state is for objects, not for these."""

    def __setattr__(cls, *_: Any) -> None:
        raise pickle.UnpicklingError('a state for what has none')


def _empty(kind: type) -> type:
    """A class that makes an empty object of ``kind``, which the pickle gives its attributes."""

    def new(_: type, *args: Any) -> Any:
        if args:
            raise pickle.UnpicklingError(f'a {kind.__name__} made with arguments')
        return object.__new__(kind)

    return _Locked(kind.__name__, (), {'__new__': new})


def _storage(content: bytes) -> Any:
    return torch.load(io.BytesIO(content), weights_only=True)


def _encode(text: str, encoding: str = 'latin1') -> bytes:
    if encoding not in ('latin1', 'latin-1'):
        raise pickle.UnpicklingError('bytes in another encoding')
    return codecs.encode(text, 'latin1')


def _bytearray(content: Any = b'') -> bytearray:
    if not isinstance(content, bytes | bytearray):
        raise pickle.UnpicklingError('a bytearray of something else')
    return bytearray(content)


def _reconstruct(kind: Any, base: Any, state: Any) -> Any:
    """How protocols 0 and 1 make an object."""
    if not isinstance(kind, _Locked) or base is not _NAMED['builtins.object'] or state is not None:
        raise pickle.UnpicklingError('an object with a state of its base')
    return kind()


def _set(items: Any = ()) -> set[Any]:
    if not isinstance(items, list | tuple):
        raise pickle.UnpicklingError('a set of something else')
    return set(items)


class _Factory(_Call):
    """What stands for a builtin class: it makes an empty one."""

    __slots__ = ()

    def __call__(self, *args: Any) -> Any:
        if args:  # int and list of anything may take for ever
            raise pickle.UnpicklingError(f'a {self.function.__name__} of something')
        return self.function()


_FACTORIES = {
    kind.__name__: _Factory(kind) for kind in (list, dict, tuple, int, float, str, bool, object)
}


def _defaultdict(factory: Any = None) -> defaultdict[Any, Any]:
    if not isinstance(factory, _Factory | None):
        raise pickle.UnpicklingError('a defaultdict of something else')
    return defaultdict(factory.function if factory else None)


_NAMED: dict[str, Any] = {
    '_codecs.encode': _Call(_encode),
    'builtins.set': _Call(_set),
    'builtins.frozenset': _Call(lambda items=(): frozenset(_set(items))),
    'builtins.bytearray': _Call(_bytearray),
    'builtins.bytes': _Call(no_bytes),
    'builtins.complex': complex,
    'builtins.slice': slice,
    'collections.OrderedDict': OrderedDict,
    'collections.defaultdict': _Call(_defaultdict),
    'collections.deque': deque,
    'collections.Counter': _Call(Counter),
    'copyreg._reconstructor': _Call(_reconstruct),
    'decimal.Decimal': _Call(decimal.Decimal),
    'numpy.ndarray': _Call(plain_array),
    'numpy.dtype': _Call(PlainDtype),
    'torch._utils._rebuild_tensor_v2': _Call(torch._utils._rebuild_tensor_v2),
    'torch._utils._rebuild_parameter': _Call(torch._utils._rebuild_parameter),
    'torch.storage._load_from_bytes': _Call(_storage),
    'torch.Size': torch.Size,
    'torch.device': torch.device,
    **{f'builtins.{name}': factory for name, factory in _FACTORIES.items()},
    **{f'datetime.{name}': getattr(datetime, name) for name in _TIMES},
    **{
        f'{module}.{kind}Path': _Call(Path)
        for module in ('pathlib', 'pathlib._local')
        for kind in ('Posix', 'Windows', 'PurePosix', 'PureWindows')
    },
}
for _package in ('numpy.core', 'numpy._core'):  # as NumPy 1 and as NumPy 2 write it
    _NAMED[f'{_package}.multiarray._reconstruct'] = _Call(plain_array)
    _NAMED[f'{_package}.multiarray.scalar'] = _Call(plain_scalar)
    _NAMED[f'{_package}.numeric._frombuffer'] = _Call(plain_buffer)

#: What programs keep in a checkpoint beside its weights, and torch does not read by itself: it must
#: not decide whether the weights are read.
BESIDE_WEIGHTS: dict[str, Any] = {
    name: value
    for name, value in _NAMED.items()
    if name.startswith(('datetime.', 'pathlib.', 'pathlib._local.'))
    or name in ('builtins.frozenset', 'builtins.slice')
    or name in [f'builtins.{factory}' for factory in _FACTORIES]
} | {
    'mmengine.config.config.ConfigDict': _Call(ConfigDict),
    'collections.defaultdict': _Call(lambda *_: {}),  # torch sets items of no other dict
}

#: Objects that mmengine and mmdet keep results in, by their modules.
_STRUCTURES = {
    'mmengine.structures.base_data_element': ('BaseDataElement',),
    'mmengine.structures.instance_data': ('InstanceData',),
    'mmengine.structures.pixel_data': ('PixelData',),
    'mmdet.structures.det_data_sample': ('DetDataSample',),
    'mmdet.structures.bbox.horizontal_boxes': ('HorizontalBoxes',),
    'mmdet.structures.mask.structures': ('BitmapMasks', 'PolygonMasks'),
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        module = _OF_PYTHON_2.get(module, module)
        text = f'{module}.{name}'
        if text in _NAMED:
            return _NAMED[text]
        if name in _STRUCTURES.get(module, ()):
            return _empty(getattr(importlib.import_module(module), name))
        if text == 'mmengine.config.config.ConfigDict':
            return _Call(ConfigDict)
        if module == 'torch' and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        raise PlainFileError(
            'a pickle that is read must hold numbers, text, arrays, plain containers and results '
            f'of mmdet alone, but it asks for {shown(text, 100)}. {_REMEDY.format("pickle.load")}'
        )


def load_pickle(file: BinaryIO, **options: Any) -> Any:
    """What a pickle holds, of data alone.

    Args:
        file: opened.
        options: of ``pickle.load``.

    Raises:
        PlainFileError: it asks for something else than data.
        Exception: as of ``pickle.load``, where it is damaged.
    """
    return _Unpickler(file, **options).load()


class _Loader(getattr(yaml, 'CSafeLoader', yaml.SafeLoader)):  # type: ignore[misc]
    """Reads what mmengine writes: tuples, too."""


def _add(tag: str, make: Callable[..., Any]) -> None:
    _Loader.add_constructor(f'tag:yaml.org,2002:python/{tag}', make)


_add('tuple', lambda loader, node: tuple(loader.construct_sequence(node, deep=True)))
_add('list', lambda loader, node: loader.construct_sequence(node, deep=True))
_add('dict', lambda loader, node: loader.construct_mapping(node, deep=True))
_add('none', _Loader.construct_yaml_null)
_add('bool', _Loader.construct_yaml_bool)
_add('int', _Loader.construct_yaml_int)
_add('float', _Loader.construct_yaml_float)
_add('str', _Loader.construct_yaml_str)
_add('unicode', _Loader.construct_yaml_str)


def load_yaml(file: Any, **options: Any) -> Any:
    """What YAML says, of data alone.

    Args:
        file: opened.
        options: of ``yaml.load``.

    Raises:
        PlainFileError: it asks for an object of Python.
        yaml.YAMLError: it is no YAML.
    """
    try:
        return yaml.load(file, **{'Loader': _Loader, **options})
    except yaml.constructor.ConstructorError as error:
        if 'python/' not in str(error.problem):
            raise
        raise PlainFileError(
            f'YAML that is read must hold plain data alone, but line '
            f'{error.problem_mark.line + 1} asks for more ({shown(error.problem, 150)}). '
            f'{_REMEDY.format("yaml.unsafe_load")}'
        ) from error
