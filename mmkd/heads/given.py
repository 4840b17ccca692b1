"""Detections as they are given, in the place of a head that predicts them."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmkd.heads.predictions import Batch, Predictions, log_of
from mmkd.heads.readers import reader


class DetectionsHead(nn.Module):
    """Hands on what was detected elsewhere: a row for each detection.

    Args:
        num_classes: C.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes

    def forward(
        self, found: Sequence[tuple[Tensor, Tensor]], unseen: Sequence[bool] = ()
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The detections of B images as one batch.

        Args:
            found: of each image the boxes (n, 4) and their scores for each class (n, C).
            unseen: of each image whether it was not looked at. Defaults to (), all were.

        Returns:
            Scores (B, N, C), boxes (B, N, 4), which of them are no filling (B, N), and which images
            were looked at (B,).
        """
        most = max((len(scores) for _, scores in found), default=0)
        first = found[0][0] if found else torch.zeros(0, 4)
        scores = first.new_zeros(len(found), most, self.num_classes)
        boxes = first.new_zeros(len(found), most, 4)
        valid = torch.zeros(len(found), most, dtype=torch.bool, device=first.device)
        for i, (box, score) in enumerate(found):
            boxes[i, : len(box)], scores[i, : len(score)], valid[i, : len(score)] = box, score, True
        seen = [not one for one in unseen] or [True] * len(found)
        return scores, boxes, valid, torch.tensor(seen)


@reader('mmkd.DetectionsHead')
def read_detections(head: Any, outputs: Sequence[Any], batch: Batch) -> Predictions:
    """A row for each detection, each object once."""
    scores, boxes, valid, *seen = outputs
    told = seen[0] if seen and not bool(seen[0].all()) else None
    return Predictions(log_of(scores), boxes, valid=valid, one_to_one=True, seen=told)
