"""What one rank finds out for all."""

import pickle
from collections.abc import Callable
from typing import Any, TypeVar

from mmengine.dist import broadcast_object_list, get_rank

Result = TypeVar('Result')


def on_first_rank(check: Callable[..., Result], *args: object) -> Result:
    """Let the first process check; what it returns, or raises, is that of all.

    So that a file is read once, and an error stops all processes instead of leaving the others
    to wait for the one that stopped.

    Args:
        check: must not itself communicate between processes.
        args: its arguments.

    Raises:
        Exception: what ``check`` raised on the first process.
    """
    result, error = None, None
    if get_rank() == 0:
        try:
            result = check(*args)
        except Exception as caught:
            error = caught
    told: list[Any] = [result, _as_told(error)]
    broadcast_object_list(told)
    if error is not None or told[1] is not None:
        raise error or told[1]
    return told[0]


def _as_told(error: Exception | None) -> Exception | None:
    """An error as other processes can be told of it."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f'{type(error).__name__}: {error}')
    return error
