"""Predictions of two models brought to the classes that both have (torch only)."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from mmkd.geometry.multi_level_maps import upcast
from mmkd.heads.class_map import ClassMap
from mmkd.heads.predictions import Predictions, log_of

_LEAST = 1e-6  # probability that is left of a softmax, and of what a sigmoid lacks to 1


def taught_rows(
    rows: Predictions,
    classes: ClassMap,
    softmax: bool,
    taught: Sequence[bool] | None = None,
    shared: bool = True,
) -> Predictions:
    """The teacher's rows with the student's classes: :meth:`ClassMap.apply` on their scores.

    Objectness and the like stay a factor. Of a head with a box for each class, a class gets the
    box of its surest partner, and the row that of its surest class.

    Args:
        rows: the teacher's, of T classes.
        classes: which of them is which of the student's.
        softmax: whether the head's scores exclude each other.
        taught: of each of the student's classes whether it is taught. Defaults to None: those that
            have a partner.
        shared: keep the taught classes alone, in order, as :func:`own_rows` does; else all of the
            student's, of which those that are not taught have a score of 0. Defaults to True.
    """
    quality = 0.0 if rows.quality is None else upcast(rows.quality)
    log_prob = upcast(rows.log_prob)
    known = classes.matched.tolist() if taught is None else taught
    kept, lost = _columns(known)
    alone = bool((classes.matrix.sum(0) <= 1).all())
    if alone and not (softmax and classes.unheard):  # exactly what the teacher said
        pairs = [(t, s) for t, s in enumerate(classes.places) if s is not None]
        t, s = (list(side) for side in zip(*pairs, strict=True))
        found = log_of(log_prob.new_zeros(*log_prob.shape[:-1], len(known)))
        found[..., s] = log_prob[..., t]
    else:
        found = log_of(classes.apply((log_prob - quality).exp(), softmax)) + quality
    if lost:
        found[..., lost] = log_of(found.new_zeros(()))
    boxes, class_boxes = rows.boxes, rows.class_boxes
    if class_boxes is not None:
        class_boxes = _boxes_of_partners(class_boxes, log_prob, classes)
        best = found.argmax(-1)[..., None, None].expand(*found.shape[:-1], 1, 4)
        boxes = class_boxes.gather(2, best)[:, :, 0]
    if shared and lost:
        found = found[..., kept]
        class_boxes = None if class_boxes is None else class_boxes[:, :, kept]
    return replace(rows, log_prob=found, boxes=boxes, class_boxes=class_boxes)


def own_rows(
    rows: Predictions, matched: Sequence[bool], softmax: bool, taught: Sequence[bool] | None = None
) -> Predictions:
    """The student's rows with the classes alone that its teacher knows, differentiable.

    Args:
        rows: the student's, of S classes.
        matched: of each of the S classes whether it has a partner.
        softmax: whether the head's scores exclude each other: without a class that has no partner
            the rest, the background included, is divided by what is left.
        taught: of each class whether it is taught. Defaults to None: those that have a partner.
    """
    taught = matched if taught is None else taught
    if all(matched) and all(taught):
        return rows
    log_prob = upcast(rows.log_prob)
    kept, _ = _columns(taught)
    found = log_prob[..., kept]
    if softmax and not all(matched):
        quality = 0.0 if rows.quality is None else upcast(rows.quality)
        lost = _columns(matched)[1]
        dropped = (log_prob[..., lost] - quality).exp().sum(-1, keepdim=True)
        # A certain class leaves nothing, of which a logarithm has no gradient.
        left = torch.log1p(-dropped.clamp(max=1 - _LEAST))
        found = torch.minimum(found - left, found.new_zeros(()) + quality)
    boxes, class_boxes = rows.boxes, rows.class_boxes
    if class_boxes is not None:
        class_boxes = class_boxes[:, :, kept]
        best = found.argmax(-1)[..., None, None].expand(*found.shape[:-1], 1, 4)
        boxes = class_boxes.gather(2, best)[:, :, 0]
    return replace(rows, log_prob=found, boxes=boxes, class_boxes=class_boxes)


def taught_maps(
    levels: Sequence[Tensor], classes: ClassMap, softmax: bool, activated: bool = False
) -> list[Tensor]:
    """The teacher's raw class maps with the student's classes, each of which has a partner.

    Logits of a softmax add up as :func:`torch.logsumexp`, and dropping a column leaves the rest a
    softmax; those of sigmoids as probabilities, up to 1.

    Args:
        levels: (B, A * K, H, W), K = T for sigmoids, T + 1 for a softmax, the background last.
        classes: which class is which.
        softmax: whether a softmax is taken of them.
        activated: whether they are probabilities already.

    Returns:
        list[Tensor]: (B, A * S, H, W), or (B, A * (S + 1), H, W).
    """
    width = len(classes.teacher) + softmax
    parts = [_places(classes, own) for own in range(len(classes.student))]
    parts += [[len(classes.teacher)]] if softmax else []
    found = []
    for level in levels:
        maps = level.unflatten(1, (-1, width))
        if all(len(part) == 1 for part in parts):
            taken = maps[:, :, [part[0] for part in parts]]
        else:
            columns = [_joined(maps[:, :, part], softmax, activated) for part in parts]
            taken = torch.stack(columns, dim=2)
        found.append(taken.flatten(1, 2))
    return found


def _columns(known: Sequence[bool]) -> tuple[list[int], list[int]]:
    """The places of those that are, and of those that are not; a mask would hold up a GPU."""
    kept = [place for place, one in enumerate(known) if one]
    return kept, [place for place, one in enumerate(known) if not one]


def _places(classes: ClassMap, own: int) -> list[int]:
    """The teacher's classes that are one of the student's."""
    return [t for t, s in enumerate(classes.places) if s == own]


def _joined(maps: Tensor, softmax: bool, activated: bool) -> Tensor:
    """(B, A, n, H, W) of one class to (B, A, H, W)."""
    if maps.size(2) == 1:
        return maps[:, :, 0]
    if softmax:
        return maps.logsumexp(2)
    probability = maps if activated else maps.sigmoid()
    total = probability.sum(2).clamp(max=1)
    return total if activated else total.clamp(max=1 - _LEAST).logit()


def _boxes_of_partners(boxes: Tensor, log_prob: Tensor, classes: ClassMap) -> Tensor:
    """(B, P, T, 4) to (B, P, S, 4), of the surest partner; of a class without one, of the row."""
    columns = []
    for own in range(len(classes.student)):
        of = _places(classes, own) or list(range(len(classes.teacher)))
        best = log_prob[..., of].argmax(-1)[..., None, None].expand(*log_prob.shape[:2], 1, 4)
        columns.append(boxes[:, :, of].gather(2, best))
    return torch.cat(columns, dim=2)
