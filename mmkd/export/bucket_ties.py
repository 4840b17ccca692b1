"""Boxes of SABL on which rounding decides, since two buckets of a side score alike."""

from collections.abc import Sequence
from typing import Any

import torch
from mmdet.models.task_modules.coders import BucketingBBoxCoder
from torch import Tensor, nn

from mmkd.heads import Batch
from mmkd.heads.grids import rows
from mmkd.heads.roi import RoICall, stack

#: Scores of two buckets that differ by less may change places by rounding.
_ALIKE = 1e-4


def in_buckets(head: Any) -> bool:
    """Whether the boxes of a dense head, or of a RoI head, are decided in buckets, as of SABL."""
    last = getattr(head, 'bbox_head', head)
    last = last[-1] if isinstance(last, nn.ModuleList) else last
    return isinstance(getattr(last, 'bbox_coder', None), BucketingBBoxCoder)


def tied_priors(head: Any, outputs: Any) -> Tensor | None:
    """(B, P): which rows of a dense head are undecided; None of a head without buckets."""
    if not in_buckets(head):
        return None
    return undecided(rows([level[0] for level in outputs[1]], 4 * head.side_num))


def tied_proposals(head: Any, calls: Sequence[RoICall], metas: Sequence[Any]) -> Tensor | None:
    """(B, K): which proposals are undecided in a stage; None of a head without buckets.

    What an earlier stage decides moves the box that the next one sees.
    """
    if not in_buckets(head):
        return None
    tied = torch.stack([undecided(call.outputs[1][0]) for call in calls]).any(0)
    rois = calls[-1].rois
    filled = stack(rois, Batch(metas=metas), tied.float()[:, None], rois.new_zeros(len(rois), 4))
    return filled.log_prob[..., 0] > 0


def undecided(logits: Tensor) -> Tensor:
    """Whether of one of the four sides the best three buckets are not clearly apart.

    The best is where the side lies; whether the second is beside it counts in the score. Where
    all buckets see the same, as in a box without width, they score alike.

    Args:
        logits: (..., 4 * buckets of a side).

    Returns:
        Tensor: (...), bool.

    Example:
        >>> undecided(torch.tensor([[0.0, 1, 2] * 4, [0.0, 1, 2] * 3 + [1, 1, 2]]))
        tensor([False,  True])
    """
    scores = logits.float().unflatten(-1, (4, -1)).softmax(-1)
    best = scores.topk(min(3, scores.size(-1)), dim=-1).values
    return (best[..., :-1] - best[..., 1:] < _ALIKE).any(-1).any(-1)
