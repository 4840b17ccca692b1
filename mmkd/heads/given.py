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

    def forward(self, found: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor, Tensor]:
        """The detections of B images as one batch.

        Args:
            found: of each image the boxes (n, 4) and their scores for each class (n, C).

        Returns:
            Scores (B, N, C), boxes (B, N, 4), and which of them are no filling (B, N).
        """
        most = max((len(scores) for _, scores in found), default=0)
        first = found[0][0] if found else torch.zeros(0, 4)
        scores = first.new_zeros(len(found), most, self.num_classes)
        boxes = first.new_zeros(len(found), most, 4)
        valid = torch.zeros(len(found), most, dtype=torch.bool, device=first.device)
        for i, (box, score) in enumerate(found):
            boxes[i, : len(box)], scores[i, : len(score)], valid[i, : len(score)] = box, score, True
        return scores, boxes, valid


@reader('mmkd.DetectionsHead')
def read_detections(head: Any, outputs: Sequence[Any], batch: Batch) -> Predictions:
    """A row for each detection, each object once."""
    scores, boxes, valid = outputs
    return Predictions(log_of(scores), boxes, valid=valid, one_to_one=True)
