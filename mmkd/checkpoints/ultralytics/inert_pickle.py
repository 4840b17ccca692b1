"""Reads a pickle without importing or calling anything that it names."""

from collections.abc import Callable, Collection
from typing import Any

from mmkd.checkpoints.ultralytics.errors import MALFORMED, CheckpointError, EndlessError
from mmkd.checkpoints.ultralytics.inert_objects import Bag, Refused, StorageRef
from mmkd.checkpoints.ultralytics.pickle_machine import PickleMachine


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
    machine = PickleMachine(bag_names)
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
    machine = PickleMachine(())
    try:
        _run(machine, data)
    except EndlessError:
        raise
    except CheckpointError:
        pass  # whoever reads all of it says what is wrong
    return machine.storages


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


def _run(machine: PickleMachine, data: bytes) -> Any:
    try:
        return machine.run(data)
    except CheckpointError:
        raise
    # A mutilated pickle can go wrong anywhere in the decoder (ValueError, IndexError, TypeError,
    # OverflowError, ...); for the user each of these means the same.
    except Exception as error:
        raise CheckpointError(f'{MALFORMED}{error!s:.200}') from error
