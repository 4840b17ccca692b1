"""Which function reads which head: by the class of the head or the nearest base of it."""

from collections.abc import Callable, Sequence
from typing import Any

from mmkd.config.names import nearest
from mmkd.heads.predictions import Batch, Predictions

Reader = Callable[[Any, Sequence[Any], Batch], Predictions]

READERS: dict[str, Reader] = {}

#: Heads that have no row with a box, and what they predict instead.
WITHOUT_ROWS: dict[str, str] = {
    'mmdet.CornerHead': 'pairs of corners',
    'mmdet.CLRHead': 'lanes',
    'mmdet.MaskFormerHead': 'masks without boxes',
    'mmdet.BaseMaskHead': 'masks without boxes',
    'mmdet.EmbeddingRPNHead': 'proposals without scores',
    'mmyolo.RTMDetRotatedHead': 'rotated boxes',
}


def reader(*names: str) -> Callable[[Reader], Reader]:
    """Register a function that reads heads of these classes, and of what derives from them.

    A class goes by its package and name, as 'mmdet.GFLHead', so that no package has to be
    imported. The function takes the head, the outputs of its forward and the images that it saw.

    Example:
        >>> from mmkd.heads import Predictions, reader
        >>> @reader('my_package.MyHead')
        ... def read_mine(head, outputs, batch):
        ...     log_prob, boxes = outputs
        ...     return Predictions(log_prob, boxes)
        >>> del READERS['my_package.MyHead']
    """

    def register(read: Reader) -> Reader:
        READERS.update(dict.fromkeys(names, read))
        return read

    return register


def names_of(head: Any) -> list[str]:
    """The package and class of ``head`` and of its bases, the nearest first."""
    return [f'{cls.__module__.split(".")[0]}.{cls.__name__}' for cls in type(head).__mro__]


def find_reader(head: Any) -> Reader:
    """The function that reads ``head``.

    Raises:
        ValueError: there is none.
    """
    kind = type(head)
    for name in names_of(head):  # a subclass is read like its nearest base
        if name in READERS:
            return READERS[name]
        if name in WITHOUT_ROWS:
            raise ValueError(
                f'a head must predict boxes with a score for each class, but {kind.__name__} '
                f'predicts {WITHOUT_ROWS[name]}. Distil its features, or take another detector.'
            )
    raise ValueError(f'mmkd.heads has no reader for {kind.__name__}. {known_heads(kind)}')


def known_heads(kind: type) -> str:
    """Which heads are known where one of class ``kind`` is not, and how to add a reader."""
    near = nearest(kind.__name__, [name.split('.')[1] for name in READERS], cutoff=0.6)
    return (
        f'It knows {", ".join(sorted(READERS))} and what derives from them'
        + (f' (nearest: {", ".join(near)})' if near else '')
        + '. Add one: a function (head, outputs, batch) that returns mmkd.heads.Predictions, under '
        + f"@mmkd.heads.reader('{kind.__module__.split('.')[0]}.{kind.__name__}')."
    )


def can_read(head: Any) -> bool:
    """Whether there is a reader for ``head``."""
    return any(name in READERS for name in names_of(head))


def read(head: Any, outputs: Sequence[Any], batch: Batch | None = None) -> Predictions:
    """What ``head`` predicts with these outputs of its forward.

    Args:
        head: a dense head, a DETR's head, or a box head of a RoI head (``batch.rois`` given).
        outputs: what its forward returned, in training or in eval.
        batch: the images that it saw. Defaults to None, unknown.

    Raises:
        ValueError: no reader for this class, or ``batch`` lacks what the reader needs.
    """
    return find_reader(head)(head, outputs, batch or Batch())
