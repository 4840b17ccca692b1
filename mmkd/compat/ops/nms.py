"""Stand-ins for mmcv's nms and softnms."""

import torch
from torch import Tensor

from mmkd.compat.ops.torchvision_op import torchvision_op
from mmkd.geometry.multi_level_maps import upcast

SUPPLIED = ('nms', 'softnms', 'nms_match')


NMS_BLOCK = 256  # boxes whose overlaps are held at a time: NMS_BLOCK * N values


def overlaps(boxes: Tensor, others: Tensor, offset: int) -> Tensor:
    """IoU of ``boxes`` (N, 4) with ``others`` (M, 4) as the compiled NMS computes it: (N, M)."""
    x1, y1, x2, y2 = boxes.t()[:, :, None]
    u1, v1, u2, v2 = others.t()
    width = (torch.min(x2, u2) - torch.max(x1, u1)).add_(offset).clamp_(min=0)
    height = (torch.min(y2, v2) - torch.max(y1, v1)).add_(offset).clamp_(min=0)
    inter = width.mul_(height)
    area = (x2 - x1 + offset) * (y2 - y1 + offset)
    other_area = (u2 - u1 + offset) * (v2 - v1 + offset)
    return inter / (area + other_area).sub_(inter)


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int = 0) -> Tensor:
    """Greedy NMS: indices of the kept boxes, highest score first; ties in input order.

    A box is kept if no kept box of higher score overlaps it by more than ``iou_threshold``.

    Args:
        boxes (Tensor): (N, 4).
        scores (Tensor): (N,).
        iou_threshold (float): boxes with a larger IoU are suppressed.
        offset (int): a side is ``x2 - x1 + offset``. Defaults to 0.
    """
    boxes, scores = upcast(boxes), upcast(scores)
    if offset == 0 and (op := torchvision_op('nms', boxes.device.type)):
        return op(boxes, scores, iou_threshold)
    order = scores.argsort(descending=True, stable=True)
    boxes = boxes[order]
    keep = torch.ones_like(order, dtype=torch.bool)
    # Blocks of descending score: all that could suppress a block's boxes from outside it has
    # been decided before, so each block is settled by itself and then suppresses what follows.
    for start in range(0, len(boxes), NMS_BLOCK):
        end = start + NMS_BLOCK
        alive = keep[start:end].nonzero().flatten() + start
        if len(alive) == 0:
            continue
        suppress = (overlaps(boxes[alive], boxes[alive], offset) > iou_threshold).triu(1)
        kept = torch.ones_like(alive, dtype=torch.bool)
        # From the top down, each round settles at least one more box, most rounds nearly all.
        while not torch.equal(kept, settled := ~(suppress & kept[:, None]).any(0)):
            kept = settled
        keep[alive] = kept
        rest = keep[end:].nonzero().flatten() + end
        keep[rest] = ~(overlaps(boxes[alive[kept]], boxes[rest], offset) > iou_threshold).any(0)
    return order[keep]


def nms_match(dets: Tensor, iou_threshold: float) -> list[list[int]]:
    """Greedy NMS that tells what each kept box suppressed.

    Args:
        dets (Tensor): (N, 5), boxes and scores.
        iou_threshold (float): boxes with at least this IoU are suppressed.

    Returns:
        list[list[int]]: for each kept box, highest score first, its index and those of the boxes
        that it suppressed, in the order of their scores.
    """
    boxes = upcast(dets[:, :4])
    rest = dets[:, 4].argsort(descending=True, stable=True)
    groups = []
    while len(rest):
        near = overlaps(boxes[rest[:1]], boxes[rest], offset=0)[0] >= iou_threshold
        near[0] = True
        groups.append(rest[near].tolist())
        rest = rest[~near]
    return groups


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int = 0,
) -> Tensor:
    """Soft NMS: fills ``dets`` (N, 5) and returns the indices of the M boxes that are left.

    One box is picked per round, and each pick changes the scores of the others, so this loops
    over the picks. Equal scores are picked in the order in which the compiled op's array has
    them, which its swaps and its refilling of gaps from the end decide; both are repeated here.

    Args:
        boxes (Tensor): (N, 4).
        scores (Tensor): (N,).
        dets (Tensor): (N, 5); rows 0 to M become boxes and decayed scores.
        iou_threshold (float): methods 0 and 1 act from this IoU on.
        sigma (float): decay of method 2.
        min_score (float): a box that decays below it is dropped.
        method (int): 0 drops, 1 decays linearly, 2 like a Gaussian.
        offset (int): a side is ``x2 - x1 + offset``. Defaults to 0.
    """
    boxes, scores = upcast(boxes), upcast(scores)
    table = torch.cat([boxes, scores[:, None]], dim=1)  # (N, 5), in the compiled op's order
    inds = torch.arange(len(boxes), device=boxes.device)
    left = len(boxes)
    pick = 0
    while pick < left:
        best = int(table[pick:left, 4].argmax()) + pick
        swap, with_ = torch.tensor([pick, best]), torch.tensor([best, pick])
        table[swap], inds[swap] = table[with_], inds[with_]
        rest = table[pick + 1 : left]  # a view: the decay below is written into the table
        # Two empty boxes overlap by 0/0, which counts as none (method 2 of the compiled op turns
        # it into a score of NaN).
        iou = overlaps(table[pick : pick + 1, :4], rest[:, :4], offset)[0].nan_to_num(0)
        if method == 2:
            rest[:, 4] *= torch.exp(-(iou * iou) / sigma)
        else:
            weight = 1 - iou if method == 1 else torch.zeros_like(iou)
            rest[:, 4] *= torch.where(iou >= iou_threshold, weight, torch.ones_like(iou))
        dropped = rest[:, 4] < min_score
        pick += 1
        if dropped.any():
            kept = int((~dropped).sum())
            gaps = dropped[:kept].nonzero().flatten() + pick
            movers = (~dropped[kept:]).nonzero().flatten().flip(0) + kept + pick
            table[gaps], inds[gaps] = table[movers], inds[movers]
            left = pick + kept
    dets[:left] = table[:left].to(dets)
    return inds[:left]
