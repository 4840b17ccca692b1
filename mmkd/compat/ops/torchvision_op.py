"""torchvision's ops, where they work."""

import functools
from collections.abc import Callable
from typing import Any

import torch


@functools.cache
def torchvision_op(name: str, device_type: str) -> Callable[..., Any] | None:
    """``torchvision.ops.<name>`` if it works on this kind of device, else None.

    torchvision may be absent, built for another torch, or without CUDA beside a torch that has
    it; only a trial call tells.
    """
    try:
        import torchvision

        box = torch.zeros(1, 4, device=device_type)
        torchvision.ops.nms(box, box[:, 0], 0.5)
        return getattr(torchvision.ops, name)
    except Exception:  # a mismatched build raises OSError, RuntimeError, ImportError, ...
        return None
