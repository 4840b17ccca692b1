"""How far two programs' rows are apart where rounding may decide on the order of proposals."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from mmkd.export.reference import Rows

#: Share of the proposals that may have no partner: of two that overlap by just the threshold,
#: rounding decides which there is.
BY_ROUNDING = 0.01
_FAR = 100


def proposal_errors(
    own: Rows, outputs: Sequence[NDArray[Any]], side: int, score: float, box: float
) -> dict[str, float]:
    """The largest differences, each proposal beside the one that is most like it.

    Args:
        own: PyTorch's rows, with how many a proposal has.
        outputs: a file's boxes (B, P, 4) and scores (B, P, C).
        side: of the input in pixels, by which a difference of boxes counts like one of scores.
        score: the difference from which two proposals are none of one kind.
        box: likewise, in pixels.

    Returns:
        ``score`` and ``box_px`` of pairs; ``box_of_tolerance``, infinite if more than one proposal
        in a hundred has no partner; ``left_out``, how many have none where there are fewer, and
        how many that are tied.
    """
    worst = dict(score=0.0, box_px=0.0, box_of_tolerance=0.0, left_out=0.0)
    for i, image in enumerate(zip(own.boxes, own.scores, *outputs, strict=True)):
        if not all(np.isfinite(part).all() for part in image):
            return {**dict.fromkeys(worst, np.inf), 'left_out': 0.0}
        first, second = (_proposals(image[k], image[k + 1], own.proposal, side) for k in (0, 2))
        apart = cdist(
            *(np.concatenate([b / side, s], 1) for b, s, _ in (first, second)), 'chebyshev'
        )
        # Those without a partner are far from all: how far must not decide on who is whose.
        here, there = linear_sum_assignment(apart.clip(max=_FAR * score))
        away_box, away_score = (
            np.abs(a[here] - b[there]).max(axis=1, initial=0)
            for a, b in zip(first[:2], second[:2], strict=True)
        )
        other = (away_score > score) | (away_box > box)
        tied = other & own.tied[i][first[2]][here] if own.tied is not None else other & False
        most = max(len(first[0]), len(second[0]))
        alone = len(first[0]) + len(second[0]) - 2 * len(here)
        left_out = alone + int((other & ~tied).sum())
        worst['left_out'] += int(tied.sum())
        if left_out <= BY_ROUNDING * most:
            worst['left_out'] += left_out
        else:
            other = tied
            worst['box_of_tolerance'] = np.inf if alone else worst['box_of_tolerance']
        away_score, away_box = away_score[~other], away_box[~other]
        parts = dict(score=away_score, box_px=away_box, box_of_tolerance=away_box / box)
        for key, away in parts.items():
            worst[key] = max(worst[key], float(away.max(initial=0)))
    return worst


def _proposals(
    boxes: NDArray[Any], scores: NDArray[Any], rows: int, side: int
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Boxes (K, rows * 4), scores (K, rows * C), and which those are: with a score at all."""
    count = len(boxes) // rows
    clipped = np.clip(boxes.astype(np.float64), -side, 2 * side).reshape(count, rows * 4)
    together = scores.astype(np.float64).reshape(count, rows * scores.shape[1])
    there = together.max(axis=1, initial=0) > 0
    return clipped[there], together[there], there
