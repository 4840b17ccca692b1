"""Rows that are detections: those of a detector that works on after it has suppressed."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from mmkd.export.onnx_functions import LEFT_OUT
from mmkd.export.proposals import at, inside, surest_apart
from mmkd.heads import Predictions


def detected_rows(
    cfg: Mapping[str, Any], log_prob: Tensor, boxes: Tensor, valid: Tensor, size: tuple[int, int]
) -> Predictions:
    """A row for each detection, of its class alone; what is lacking is invalid.

    Args:
        cfg: the ``test_cfg`` of a RoI head.
        log_prob: (B, K, C), of all proposals.
        boxes: (B, K, 1 or C, 4), likewise.
        valid: (B, K), likewise.
        size: (H, W) of the images.
    """
    classes = log_prob.size(2)
    scores = (log_prob.exp() * valid[..., None]).flatten(1)
    scores = scores.where(scores > cfg['score_thr'], torch.full_like(scores, LEFT_OUT))
    pairs = inside(boxes, size).expand(-1, -1, classes, -1).flatten(1, 2)
    groups = torch.arange(classes).repeat(log_prob.size(1)).to(scores)
    kept, place = surest_apart(pairs, scores, groups, cfg['nms'], cfg['max_per_img'])
    own = torch.arange(classes) == (place % classes)[..., None]
    found = kept.clamp(min=0)[..., None].log().where(own, kept.new_tensor(-torch.inf))
    return Predictions(found, at(pairs, place), valid=kept > 0)


def rows_of_detections(found: Sequence[Any], classes: int) -> Predictions:
    """The detections of a batch as rows.

    Args:
        found: ``InstanceData`` of each image, with ``bboxes``, ``scores`` and ``labels``.
        classes: how many there are.
    """
    most = max(len(one.scores) for one in found)
    like = found[0].scores
    log_prob = like.new_full((len(found), most, classes), -torch.inf)
    boxes, valid = like.new_zeros(len(found), most, 4), torch.zeros(len(found), most) > 0
    for i, one in enumerate(found):
        count = len(one.scores)
        log_prob[i, torch.arange(count), one.labels] = one.scores.log()
        boxes[i, :count], valid[i, :count] = one.bboxes, True
    return Predictions(log_prob, boxes, valid=valid)


def joined_branches(rows: Predictions, branches: int) -> Predictions:
    """The rows of TridentNet's branches as those of their images, by which they are suppressed.

    Args:
        rows: of all images in the first branch, then of all in the second, and so on.
        branches: how many there are.
    """
    assert rows.valid is not None, 'as of all detections'
    log_prob, boxes, valid = (
        part.unflatten(0, (branches, -1)).transpose(0, 1).flatten(1, 2)
        for part in (rows.log_prob, rows.boxes, rows.valid)
    )
    return replace(rows, log_prob=log_prob, boxes=boxes, valid=valid)
