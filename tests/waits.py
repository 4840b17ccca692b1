"""What a GPU would be waited for, found on any machine."""

import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

#: Ops whose result's size or value the processor must know.
_OPS = ('_local_scalar_dense', 'nonzero', 'is_nonzero', 'equal', 'masked_select', 'unique')
#: Methods that bring values to the processor without such an op.
_METHODS = ('tolist', 'numpy', 'cpu')
_PACKAGES = ('mmkd', 'mmengine', 'mmdet', 'mmrazor', 'mmyolo')


class _Ops(TorchDispatchMode):
    def __init__(self, found: Counter) -> None:
        super().__init__()
        self.found = found

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        indices = args[1] if name.startswith('index') and len(args) > 1 else ()
        by_mask = isinstance(indices, list | tuple) and any(
            isinstance(index, torch.Tensor) and index.dtype == torch.bool for index in indices
        )
        if by_mask or name.startswith(_OPS):
            self.found[_place()] += 1
        return func(*args, **kwargs or {})


class _Methods(TorchFunctionMode):
    def __init__(self, found: Counter) -> None:
        super().__init__()
        self.found = found

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if getattr(func, '__name__', '') in _METHODS:
            self.found[_place()] += 1
        return func(*args, **kwargs or {})


def _place() -> str:
    """The package, module and function that waits: the innermost that is not torch's."""
    for frame in reversed(traceback.extract_stack()):
        path = Path(frame.filename)
        package = [part for part in path.parts if part in _PACKAGES]
        if package:
            return f'{package[-1]}.{path.stem}.{frame.name}'
    return 'elsewhere'


@contextmanager
def waits() -> Iterator[Counter]:
    """Count, by place, what waits for a device, as if all tensors were on one."""
    found: Counter = Counter()
    with _Ops(found), _Methods(found):
        yield found
