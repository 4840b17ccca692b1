"""``MaxIoUAssigner`` for a batch of images that share their priors."""

import torch
from mmdet.models.task_modules import MaxIoUAssigner
from torch import Tensor

from mmkd.targets.ground_truth import GroundTruth, in_order

_OUTSIDE = -2.0  # below all that can be: -1 is of a prior on an ignored region


def assign(
    assigner: MaxIoUAssigner,
    priors: Tensor,
    inside: Tensor | None,
    truth: GroundTruth,
    ignored: GroundTruth | None,
) -> Tensor:
    """What ``assigner.assign`` finds for each image, to the bit.

    Args:
        assigner: without ``perm_repeat_gt_cfg``.
        priors: (P, 4).
        inside: (N, P) bool, the priors that take part in each image; None if all do.
        truth: of the images.
        ignored: regions of the images that are neither object nor background.

    Returns:
        Tensor: (N, P) int64; k + 1 for the k-th box of the image, 0 for background, -1 for
        neither and for priors that take no part.
    """
    order: list[int] = []
    parts = []
    for images in truth.blocks(len(priors), ignored):
        order += images
        part = inside[images] if inside is not None else None
        parts.append(_assign_block(assigner, priors, part, truth, ignored, images))
    return in_order(parts, order)


def _assign_block(
    assigner: MaxIoUAssigner,
    priors: Tensor,
    inside: Tensor | None,
    truth: GroundTruth,
    ignored: GroundTruth | None,
    images: list[int],
) -> Tensor:
    boxes = truth.padded(images)  # (n, G, 4)
    number, most = boxes.shape[:2]
    overlaps = assigner.iou_calculator(boxes.flatten(0, 1), priors).view(number, most, -1)
    if ignored is not None and any(ignored.counts[i] for i in images):
        regions = ignored.padded(images)
        covered = _covered(assigner, priors, regions) > assigner.ignore_iof_thr
        overlaps.masked_fill_(covered[:, None], -1)
    if inside is not None:
        overlaps.masked_fill_(~inside[:, None], _OUTSIDE)
    counts = torch.tensor([truth.counts[i] for i in images]).to(boxes.device, non_blocking=True)

    best, which = overlaps.max(dim=1)  # of boxes that overlap alike the first, so never a padding
    thr = assigner.neg_iou_thr
    assigned = which.new_full(best.shape, -1)
    if isinstance(thr, float | tuple):
        low, high = thr if isinstance(thr, tuple) else (0, thr)
        assigned.masked_fill_((best >= low) & (best < high), 0)
    assigned = torch.where(best >= assigner.pos_iou_thr, which + 1, assigned)
    if assigner.match_low_quality:
        last = _of_best_priors(assigner, overlaps, counts)
        assigned = torch.where(last > 0, last, assigned)
    assigned.masked_fill_((counts == 0)[:, None], 0)
    return assigned if inside is None else assigned.masked_fill_(~inside, -1)


def _covered(assigner: MaxIoUAssigner, priors: Tensor, regions: Tensor) -> Tensor:
    """How much of each prior (or of a region) is within a region, (n, P)."""
    number, most = regions.shape[:2]
    flat = regions.flatten(0, 1)
    if assigner.ignore_wrt_candidates:
        shares = assigner.iou_calculator(priors, flat, mode='iof').view(-1, number, most)
        return shares.amax(dim=2).t()
    return assigner.iou_calculator(flat, priors, mode='iof').view(number, most, -1).amax(dim=1)


def _of_best_priors(assigner: MaxIoUAssigner, overlaps: Tensor, counts: Tensor) -> Tensor:
    """The last box whose best prior each one is, (n, P); k + 1, or 0 where it is none's."""
    best, which = overlaps.max(dim=2)  # (n, G)
    ranks = torch.arange(1, overlaps.size(1) + 1, device=overlaps.device)
    takes = (best >= assigner.min_pos_iou) & (ranks <= counts[:, None])
    ranks = torch.where(takes, ranks, 0)
    if assigner.gt_max_assign_all:
        small = ranks.to(torch.int32)[..., None]
        return torch.where(overlaps == best[..., None], small, 0).amax(dim=1).long()
    last = ranks.new_zeros(overlaps.size(0), overlaps.size(2))
    return last.scatter_reduce_(1, which, ranks, 'amax')
