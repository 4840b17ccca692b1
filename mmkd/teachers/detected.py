"""Rules for what detectors of other programs give."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmkd.config.names import first_of
from mmkd.detections.results_file import ROUNDING, SCORE_REMEDY, SCORE_RULE


def are_scores(scores: NDArray[Any]) -> bool:
    """Whether all are from 0 to 1, but for rounding; what is no number is none."""
    return bool(((scores >= -ROUNDING) & (scores <= 1 + ROUNDING)).all())


def check_scores(scores: NDArray[Any], where: str, hint: str = '') -> NDArray[Any]:
    """Hold scores to the rule that those of files are held to.

    Args:
        scores: of any shape.
        where: what gave them, for the message.
        hint: what else may mend them.

    Returns:
        np.ndarray: the same, without what rounding did.

    Raises:
        ValueError: some are below 0, above 1, or no numbers.
    """
    if not are_scores(scores):
        wrong = scores[~((scores >= -ROUNDING) & (scores <= 1 + ROUNDING))]
        shown = first_of((f'{score:.4g}' for score in wrong[:4]), 3)
        raise ValueError(
            f'{SCORE_RULE}, but of {where} {wrong.size} of {scores.size} are not: {shown}. '
            f'{SCORE_REMEDY}{hint}'
        )
    return scores.clip(0, 1)


def upright(boxes: NDArray[Any]) -> NDArray[Any]:
    """(n,), bool: of boxes (n, 4) those with x1 <= x2 and y1 <= y2."""
    return np.asarray((boxes[:, 2:] >= boxes[:, :2]).all(1))


def sigmoid(logits: NDArray[Any]) -> NDArray[Any]:
    """Of any number, without an overflow.

    >>> sigmoid(np.float32([-1000, 0, 1000])).tolist()
    [0.0, 0.5, 1.0]
    """
    with np.errstate(invalid='ignore'):  # what is no number stays so, and is told by check_scores
        return np.exp(-np.logaddexp(np.float32(0), -logits)).astype(np.float32)
