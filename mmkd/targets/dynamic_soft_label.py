"""``DynamicSoftLabelAssigner`` for a batch of images that share their priors."""

import torch
import torch.nn.functional as F
from mmdet.models.task_modules import DynamicSoftLabelAssigner
from torch import Tensor

from mmkd.targets.ground_truth import GroundTruth, in_order

_EPS = 1e-7  # mmdet's


def assign(
    assigner: DynamicSoftLabelAssigner,
    scores: Tensor,
    predicted: Tensor,
    priors: Tensor,
    inside: Tensor,
    truth: GroundTruth,
) -> tuple[Tensor, Tensor]:
    """What ``assigner.assign`` finds for each image, to the bit on a CPU.

    Args:
        assigner: mmdet's.
        scores: (N, P, C) logits.
        predicted: (N, P, 4) boxes.
        priors: (P, 4) points with strides.
        inside: (N, P) bool, the priors that take part in each image.
        truth: of the images.

    Returns:
        tuple: (N, P) int64, k + 1 for the k-th box of the image, or 0; (N, P) the overlap with that
        box, or 0. There is one wait for the device in each block of images.
    """
    order: list[int] = []
    parts = []
    # A pair is compared in each class, but few priors are within a box.
    for images in truth.blocks(len(priors) * max(1, scores.size(2) // 8)):
        order += images
        counts = [truth.counts[image] for image in images]
        boxes = truth.padded(images)  # (n, G, 4)
        within = torch.cat(
            [priors[:, :2] - boxes[..., None, :2], boxes[..., None, 2:] - priors[:, :2]], dim=-1
        )
        valid = (within.amin(dim=-1) > 0).any(dim=1) & inside[images]
        image, prior = valid.nonzero(as_tuple=True)
        whole = torch.tensor(images).to(image.device)[image]
        kind = truth.padded_labels(images)[image]
        costs, overlaps = _costs(
            assigner,
            scores[whole, prior],
            predicted[whole, prior],
            priors[prior],
            boxes[image],
            kind,
        )
        match = _match_in_turn if image.device.type == 'cpu' else _match_at_once
        parts.append(match(assigner, valid, costs, overlaps, counts))
    assigned, overlaps = (in_order(list(part), order) for part in zip(*parts, strict=True))
    return assigned, overlaps


def _costs(
    assigner: DynamicSoftLabelAssigner,
    scores: Tensor,
    predicted: Tensor,
    priors: Tensor,
    boxes: Tensor,
    labels: Tensor,
) -> tuple[Tensor, Tensor]:
    """What it costs that a prior is for a box, and the overlap of what it predicts with the box.

    Args:
        assigner: mmdet's.
        scores: (R, C) of priors that are within a box.
        predicted: (R, 4).
        priors: (R, 4).
        boxes: (R, G, 4), those of the prior's image.
        labels: (R, G).

    Returns:
        tuple: (R, G) twice.
    """
    centres = (boxes[..., :2] + boxes[..., 2:]) / 2.0
    distance = (priors[:, None, :2] - centres).pow(2).sum(-1).sqrt() / priors[:, 2, None]
    off_centre = torch.pow(10, distance - assigner.soft_center_radius)

    overlaps = assigner.iou_calculator(predicted[:, None], boxes)[:, 0]
    overlap_cost = -torch.log(overlaps + _EPS) * assigner.iou_weight

    soft = torch.zeros(*labels.shape, scores.size(1), device=scores.device)
    soft.scatter_(2, labels.long()[..., None], overlaps[..., None].float())
    logits = scores[:, None].expand_as(soft).contiguous()
    class_cost = F.binary_cross_entropy_with_logits(logits, soft, reduction='none')
    scale = soft.sub_(scores.sigmoid()[:, None]).abs_().pow_(2.0)
    class_cost = class_cost.mul_(scale).sum(dim=-1)
    return class_cost + overlap_cost + off_centre, overlaps


def _match_in_turn(
    assigner: DynamicSoftLabelAssigner,
    valid: Tensor,
    costs: Tensor,
    overlaps: Tensor,
    counts: list[int],
) -> tuple[Tensor, Tensor]:
    """By mmdet's own matching, whose ``topk`` chooses among equal costs in a way of its own.

    Args:
        assigner: mmdet's.
        valid: (n, P) bool, R of which are true.
        costs: (R, G).
        overlaps: (R, G).
        counts: boxes of each image, the first of the G.

    Returns:
        tuple: as :func:`assign`.
    """
    assigned = torch.zeros(valid.shape, dtype=torch.long, device=valid.device)
    found = overlaps.new_zeros(valid.shape)
    rows = valid.sum(dim=1).tolist()
    for i, (cost, overlap) in enumerate(zip(costs.split(rows), overlaps.split(rows), strict=True)):
        if rows[i]:
            cost, overlap = (value[:, : counts[i]].contiguous() for value in (cost, overlap))
            matched = valid[i].clone()
            values, boxes = assigner.dynamic_k_matching(cost, overlap, counts[i], matched)
            assigned[i, matched], found[i, matched] = boxes + 1, values
    return assigned, found


def _match_at_once(
    assigner: DynamicSoftLabelAssigner,
    valid: Tensor,
    costs: Tensor,
    overlaps: Tensor,
    counts: list[int],
) -> tuple[Tensor, Tensor]:
    """As :func:`_match_in_turn`, for all boxes at once; of equal costs the first."""
    number, most = len(counts), costs.size(1)
    real = torch.arange(most) < torch.tensor(counts)[:, None]
    real = real.to(valid.device, non_blocking=True)[..., None]  # (n, G, 1)
    shape = number, valid.size(1), most
    # Far from a centre a cost is infinite, but less so than where there is nothing to match.
    costs = costs.clamp(max=torch.finfo(costs.dtype).max)
    cost = costs.new_full(shape, torch.inf).masked_scatter_(valid[..., None], costs).mT
    overlap = overlaps.new_zeros(shape).masked_scatter_(valid[..., None], overlaps).mT
    cost, overlap = cost.masked_fill(~real, torch.inf), overlap.masked_fill(~real, 0)

    best = overlap.topk(min(assigner.topk, valid.size(1)), dim=2).values
    takes = best.sum(dim=2).int().clamp(min=1)[..., None]  # (n, G, 1)
    ranked = cost.argsort(dim=2, stable=True)
    first = torch.arange(valid.size(1), device=valid.device) < takes
    matching = torch.zeros_like(first).scatter_(2, ranked, first) & cost.isfinite()
    cheapest = torch.zeros_like(matching).scatter_(1, cost.argmin(dim=1, keepdim=True), True)
    matching = torch.where(matching.sum(dim=1, keepdim=True) > 1, cheapest, matching)
    assigned = torch.where(matching.any(dim=1), matching.int().argmax(dim=1) + 1, 0)
    return assigned, (matching * overlap).sum(dim=1)
