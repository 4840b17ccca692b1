"""A dense head whose loss does not see some classes in some images."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from mmkd.heads import describe_head, predicting_head
from mmkd.recorders.replaced import replaced

_NEVER = {True: -20.0, False: -1e4}  # a sigmoid's logit without a loss; one without a share


def has_class_columns(model: Any) -> bool:
    """Whether all that a detector says of a class stands in the class's own scores.

    It does not with an objectness, nor where proposals or queries are chosen for all classes.
    """
    name, head = predicting_head(model)
    if name != 'bbox_head' or type(head).__name__ == 'YOLOV3Head':
        return False
    known = describe_head(head)
    return known.rows == 'priors' and known.sigmoid is not None and known.factor != 'objectness'


@contextmanager
def classes_left_out(model: Any, labels: Sequence[int], images: Tensor) -> Iterator[None]:
    """While the head runs, the scores of some classes are fixed, and have no gradient.

    Those of sigmoids cost nothing; of a softmax the other classes and the background are divided
    by what is left.

    Args:
        model: a detector that :func:`has_class_columns`.
        labels: the classes.
        images: (B,), bool, in which.
    """
    _, head = predicting_head(model)
    known = describe_head(head)
    forward = head.forward
    never = 1e-6 if known.probabilities else _NEVER[bool(known.sigmoid)]

    def left_out(*args: Any, **kwargs: Any) -> Any:
        outputs = list(forward(*args, **kwargs))
        outputs[0] = [fixed(level) for level in outputs[0]]
        return tuple(outputs)

    def fixed(level: Tensor) -> Tensor:
        scores = level.unflatten(1, (-1, known.class_channels))  # (B, A, K, H, W)
        columns = torch.zeros(known.class_channels, dtype=torch.bool, device=level.device)
        columns[list(labels)] = True
        mask = images.to(level.device)[:, None] & columns  # (B, K)
        return torch.where(mask[:, None, :, None, None], never, scores).flatten(1, 2)

    with replaced(head, 'forward', left_out):
        yield
