"""The score from which each detector's boxes are shown, so that all are as precise."""

from collections.abc import Hashable, Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mmkd.compare.measure.errors import Judged, counted

Key = TypeVar('Key', bound=Hashable)


def equal_thresholds(
    judged: Mapping[Key, Judged], model: Key
) -> tuple[float, dict[Key, float], list[Key]]:
    """The precision at which ``model`` is best, and the score at which each detector has it.

    A common score would show many boxes of a detector that is sure of itself, and none of another
    that is as good. ``model`` is best where its F1, at an IoU of 0.5, is highest.

    Args:
        judged: the detections of each detector.
        model: one of them.

    Returns:
        tuple: the precision; by detector the lowest score from which on its detections are at least
        as precise, or for one that never is, the score at which it is most precise; of those with
        detections the ones that never are.
    """
    judged = {key: counted(one) for key, one in judged.items()}
    precision, hits = _curve(judged[model])
    objects, count = len(judged[model].classes), np.arange(1, len(hits) + 1)
    best = int(np.argmax(2 * hits / (count + objects))) if len(hits) else 0
    wanted = float(precision[best]) if len(hits) else 0.0
    never = [k for k, one in judged.items() if len(one.score) and _curve(one)[0].max() < wanted]
    return wanted, {key: _threshold(one, wanted) for key, one in judged.items()}, never


def _curve(judged: Judged) -> tuple[NDArray[Any], NDArray[Any]]:
    hits = np.cumsum(judged.kind == '')
    return hits / np.arange(1, len(hits) + 1), hits


def _threshold(judged: Judged, wanted: float) -> float:
    precision, _ = _curve(judged)
    if not len(precision):
        return 1.0
    reached = np.flatnonzero(precision >= wanted)
    index = reached[-1] if len(reached) else precision.argmax()
    return float(judged.score[index])
