"""Memory that a step has freed, kept for the next step."""

import ctypes
import os
import sys

from mmengine.device import get_device

#: Parameters of glibc's ``mallopt``, as in malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4


def keep_memory() -> bool:
    """Let a training on a CPU keep the memory that it frees; whether that was done.

    glibc gives large blocks back to the kernel as they are freed, so that each step gets its maps
    anew, and the kernel clears them page by page. Results are the same to the bit. Processes that
    are forked later do the same. It stays as it is on a GPU, beside another C library or another
    allocator, and where the environment has settings of the allocator: ``MALLOC_...`` or
    ``GLIBC_TUNABLES``.
    """
    if sys.platform != 'linux' or get_device() != 'cpu' or _is_set():
        return False
    own = ctypes.CDLL(None)
    if not hasattr(own, 'gnu_get_libc_version') or _malloc(own) != _malloc('libc.so.6'):
        return False
    return bool(own.mallopt(_MMAP_MAX, 0) and own.mallopt(_TRIM_THRESHOLD, -1))


def _is_set() -> bool:
    tunables = 'glibc.malloc' in os.environ.get('GLIBC_TUNABLES', '')
    return tunables or any(name.startswith('MALLOC_') for name in os.environ)


def _malloc(library: ctypes.CDLL | str) -> int | None:
    """Where the ``malloc`` of a library is: that of the process may be another one's."""
    found = ctypes.CDLL(library) if isinstance(library, str) else library
    return ctypes.cast(found.malloc, ctypes.c_void_p).value
