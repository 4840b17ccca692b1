"""A model without what wraps it for several processes."""

from typing import Any

from mmengine.model import is_model_wrapper


def unwrapped(model: Any) -> Any:
    """The model inside of a DDP or FSDP wrapper, or the model itself.

    >>> from torch import nn
    >>> unwrapped(nn.Linear(1, 1))
    Linear(in_features=1, out_features=1, bias=True)
    """
    while is_model_wrapper(model):
        model = model.module
    return model
