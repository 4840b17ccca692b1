"""Whether the scores of a detector's classes exclude each other."""

from typing import Any

from mmkd.heads import describe_head, predicting_head


def excludes(detector: Any) -> bool:
    """Whether they are of one softmax, as far as the detector tells: a head, or a description.

    Args:
        detector: of :mod:`mmkd.label.detectors`.
    """
    inner = getattr(detector, 'detector', None)
    told = getattr(getattr(inner, '_described', None), 'activation', None)
    if told is not None:
        return bool(told == 'softmax')
    _, head = predicting_head(getattr(inner, 'model', None))
    return head is not None and describe_head(head).sigmoid is False
