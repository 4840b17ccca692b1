"""Patches of mmengine's log."""

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

#: Values that wait to be read; more are read at once, so that they do not fill a GPU.
MOST = 10_000


def read_logged_values_late() -> None:
    """mmengine reads each logged value in each step, and a GPU stands still for each of them.

    Here a value stays where it is until the log is looked at: when it is printed or saved. Then all
    that have come are read at once, and the history is the same. The same for the norm of clipped
    gradients, which OptimWrapper reads itself.
    """
    from mmengine.logging import MessageHub
    from mmengine.optim import OptimWrapper

    update, get = MessageHub.update_scalar, MessageHub.get_scalar

    def waiting(hub: MessageHub) -> list[tuple[str, Any, int]]:
        return hub.__dict__.setdefault('_waiting', [])

    def read(hub: MessageHub) -> None:
        found, hub.__dict__['_waiting'] = waiting(hub), []
        values = numbers([value for _, value, _ in found])
        for (key, _, count), value in zip(found, values, strict=True):
            update(hub, key, value, count, hub._resumed_keys[key])

    @functools.wraps(update)
    def update_scalar(
        self: MessageHub, key: str, value: Any, count: int = 1, resumed: bool = True
    ) -> None:
        late = isinstance(value, Tensor) and value.is_floating_point() and value.numel() == 1
        if late and isinstance(count, int):
            self._set_resumed_keys(key, resumed)
            # A copy: what it is of may be written to.
            waiting(self).append((key, value.detach().clone().reshape(()), count))
            if len(waiting(self)) > MOST:
                read(self)
            return
        if any(key == other for other, _, _ in waiting(self)):
            read(self)
        update(self, key, value, count, resumed)

    @functools.wraps(get)
    def get_scalar(self: MessageHub, key: str) -> Any:
        known = key in self._log_scalars and all(key != other for other, _, _ in waiting(self))
        return self._log_scalars[key] if known else get(self, key)

    def read_first(method: Any) -> Any:
        @functools.wraps(method)
        def reading(self: MessageHub, *args: Any) -> Any:
            read(self)
            return method(self, *args)

        return reading

    MessageHub.update_scalar, MessageHub.get_scalar = update_scalar, get_scalar
    MessageHub.log_scalars = property(read_first(MessageHub.log_scalars.fget))
    MessageHub.state_dict = read_first(MessageHub.state_dict)
    MessageHub.load_state_dict = read_first(MessageHub.load_state_dict)

    clip = OptimWrapper._clip_grad

    @functools.wraps(clip)
    def _clip_grad(self: OptimWrapper) -> None:
        clip_func = self.clip_func

        def clipped(*args: Any, **kwargs: Any) -> None:  # None: there is no number to be read now
            norm = clip_func(*args, **kwargs)
            if norm is not None:
                self.message_hub.update_scalar(f'train/{self.grad_name}', norm)

        self.clip_func = clipped
        try:
            clip(self)
        finally:
            self.clip_func = clip_func

    OptimWrapper._clip_grad = _clip_grad


def numbers(values: Sequence[Tensor | float]) -> list[float]:
    """The values of scalars; a device is waited for once, however many they are."""
    found = [0.0 if isinstance(value, Tensor) else value for value in values]
    groups: dict[Any, list[tuple[int, Tensor]]] = {}
    for i, value in enumerate(values):
        if isinstance(value, Tensor):
            groups.setdefault((value.device, value.dtype), []).append((i, value))
    for group in groups.values():
        read = torch.stack([value for _, value in group]).tolist()
        for (i, _), number in zip(group, read, strict=True):
            found[i] = number
    return found
