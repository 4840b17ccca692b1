"""``RTMDetHead``: priors and targets of a whole batch."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mmkd.targets.anchor_head import inside_flags, shared_flags
from mmkd.targets.dynamic_soft_label import assign
from mmkd.targets.ground_truth import GroundTruth


def get_anchors(
    head: Any,
    featmap_sizes: list[tuple[int, int]],
    batch_img_metas: list[dict[str, Any]],
    device: Any,
) -> tuple[list[list[Tensor]], list[list[Tensor]]]:
    """As the head's own, but images that are padded alike share their flags."""
    generator = head.prior_generator
    priors = generator.grid_priors(featmap_sizes, device=device, with_stride=True)
    flags = shared_flags(generator, featmap_sizes, batch_img_metas, device)
    return [priors for _ in flags], flags


def get_targets(
    head: Any,
    cls_scores: Tensor,
    bbox_preds: Tensor,
    anchor_list: list[list[Tensor]],
    valid_flag_list: list[list[Tensor]],
    batch_gt_instances: Sequence[Any],
    batch_img_metas: list[dict[str, Any]],
    batch_gt_instances_ignore: Sequence[Any] | None = None,
    unmap_outputs: bool = True,
) -> Any:
    """As the head's own, but for the samples of each image, which its loss does not use."""
    shared = all(priors is anchor_list[0] for priors in anchor_list)
    plain = all(
        isinstance(one.bboxes, Tensor) and not hasattr(one, 'masks') for one in batch_gt_instances
    )
    if not shared or not unmap_outputs or not plain:
        return NotImplemented
    sizes = [len(level) for level in anchor_list[0]]
    priors = torch.cat(anchor_list[0])
    border = head.train_cfg['allowed_border']
    inside = inside_flags(priors, valid_flag_list, batch_img_metas, border)
    if border >= 0 and not inside.any(dim=1).all():
        return NotImplemented
    truth = GroundTruth(batch_gt_instances, priors)
    scores, boxes = cls_scores.detach(), bbox_preds.detach()
    assigned, overlaps = assign(head.assigner, scores, boxes, priors, inside, truth)

    positive = assigned > 0
    rows = torch.where(positive, truth.first + assigned - 1, len(truth.boxes) - 1)
    label_weights = inside.float()
    if head.train_cfg['pos_weight'] > 0:
        label_weights.masked_fill_(positive, head.train_cfg['pos_weight'])
    targets = (
        torch.where(inside[..., None], priors, 0),
        torch.where(positive, truth.labels[rows].long(), head.num_classes),
        label_weights,
        truth.boxes[rows].to(priors.dtype),  # zeros where there is none
        overlaps,
    )
    return (*(list(part.split(sizes, 1)) for part in targets), [])
