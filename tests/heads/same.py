"""Rows against detections, whatever their order."""

import torch
from scipy.optimize import linear_sum_assignment


def assert_rows_are_the_heads_own(found, image, own, shape, per_row, rows=None):
    """Each row and class is a detection of the head, and each detection one of them.

    Args:
        found: Predictions.
        image: index.
        own: the head's InstanceData of this image, unfiltered.
        shape: (h, w) to which the head clips.
        per_row: 1 where the head gives a row's surest class alone, else the number of classes.
        rows: (P,), bool, which of them count. Defaults to None, all.
    """
    height, width = shape
    rows = slice(None) if rows is None else rows
    prob = found.log_prob[image][rows].exp().double()  # (P, C)
    # Boxes are not clipped in the rows; Fovea clips a pixel short of the others.
    limit = torch.tensor([width - 1.0, height - 1.0] * 2).double()

    def clip(boxes):
        return torch.minimum(boxes.double().clamp(min=0), limit)

    labels = own.labels.long()
    assert len(labels) == len(prob) * per_row > 0
    if per_row > 1:
        assert labels.bincount(minlength=prob.size(1)).tolist() == [len(prob)] * prob.size(1)
    score_error = (own.scores[:, None].double() - prob[:, labels].T).abs()  # (N, P)
    if found.class_boxes is None:
        boxes = clip(found.boxes[image][rows])[None]
    else:
        boxes = clip(found.class_boxes[image][rows])[:, labels].transpose(0, 1)
    box_error = (clip(own.bboxes)[:, None] - boxes).abs().amax(-1)
    error = score_error / 1e-5 + box_error / (1e-3 * (1 + boxes.abs().amax(-1)))
    # One to one, though two rows may be alike. A row that gives one detection gives it once.
    for members in [labels == c for c in labels.unique()] if per_row > 1 else [labels >= 0]:
        matched = error[members].detach().clamp(max=1e6)
        worst = matched[linear_sum_assignment(matched)].max()
        assert worst < 1, f'{worst:.1e} of the tolerance'
