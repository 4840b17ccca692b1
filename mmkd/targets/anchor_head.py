"""``AnchorHead`` and its kind (RetinaNet): anchors, targets and loss of a whole batch."""

from collections.abc import Sequence
from typing import Any

import torch
from mmdet.models.utils import multi_apply
from torch import Tensor

from mmkd.targets.ground_truth import GroundTruth
from mmkd.targets.max_iou import assign


def get_anchors(
    head: Any,
    featmap_sizes: list[tuple[int, int]],
    batch_img_metas: list[dict[str, Any]],
    device: Any,
) -> tuple[list[list[Tensor]], list[list[Tensor]]]:
    """As the head's own, but images that are padded alike share their flags."""
    anchors = head.prior_generator.grid_priors(featmap_sizes, device=device)
    flags = shared_flags(head.prior_generator, featmap_sizes, batch_img_metas, device)
    return [anchors for _ in flags], flags


def shared_flags(
    generator: Any, featmap_sizes: list[tuple[int, int]], metas: list[dict[str, Any]], device: Any
) -> list[list[Tensor]]:
    """The valid priors of each image by level; of images that are padded alike the same list."""
    shapes = [tuple(meta['pad_shape'][:2]) for meta in metas]
    flags = {
        shape: generator.valid_flags(featmap_sizes, shape, device)
        for shape in dict.fromkeys(shapes)
    }
    return [flags[shape] for shape in shapes]


def get_targets(
    head: Any,
    anchor_list: list[list[Tensor]],
    valid_flag_list: list[list[Tensor]],
    batch_gt_instances: Sequence[Any],
    batch_img_metas: list[dict[str, Any]],
    batch_gt_instances_ignore: Sequence[Any] | None = None,
    unmap_outputs: bool = True,
    return_sampling_results: bool = False,
) -> Any:
    """As the head's own, with the average factor as a tensor: nothing waits for the device.

    With ``allowed_border`` of 0 or more there is one wait, for what mmdet calls an error: an image
    with no anchor inside.
    """
    shared = all(anchors is anchor_list[0] for anchors in anchor_list)
    if not shared or not unmap_outputs or return_sampling_results:
        return NotImplemented
    sizes = [len(anchors) for anchors in anchor_list[0]]
    anchors = torch.cat(anchor_list[0])
    border = head.train_cfg['allowed_border']
    inside = inside_flags(anchors, valid_flag_list, batch_img_metas, border)
    if border >= 0 and not inside.any(dim=1).all():
        return NotImplemented  # which says what is wrong with the image
    truth = GroundTruth(batch_gt_instances, anchors)
    ignored = None
    if head.assigner.ignore_iof_thr > 0 and batch_gt_instances_ignore is not None:
        ignored = GroundTruth(batch_gt_instances_ignore, anchors)
    assigned = assign(head.assigner, anchors, inside, truth, ignored)

    positive = assigned > 0
    rows = torch.where(positive, truth.first + assigned - 1, len(truth.boxes) - 1)
    labels = torch.where(positive, truth.labels[rows].long(), head.num_classes)
    label_weights = (assigned >= 0).float()
    if head.train_cfg['pos_weight'] > 0:
        label_weights.masked_fill_(positive, head.train_cfg['pos_weight'])
    boxes = truth.boxes[rows]
    if not head.reg_decoded_bbox:
        own = anchors.expand_as(boxes).reshape(-1, 4)
        boxes = head.bbox_coder.encode(own, boxes.view(-1, 4)).view_as(boxes)
    box_targets = torch.where(positive[..., None], boxes, 0).to(anchors.dtype)
    box_weights = positive[..., None].to(anchors.dtype).expand_as(boxes)
    # Of an image without positives mmdet counts one.
    num_pos = positive.sum(dim=1).clamp(min=1).sum()
    return (
        *(list(part.split(sizes, 1)) for part in (labels, label_weights, box_targets, box_weights)),
        num_pos,
    )


def loss_by_feat(
    head: Any,
    cls_scores: Sequence[Tensor],
    bbox_preds: Sequence[Tensor],
    batch_gt_instances: Sequence[Any],
    batch_img_metas: list[dict[str, Any]],
    batch_gt_instances_ignore: Sequence[Any] | None = None,
) -> dict[str, list[Tensor]]:
    """As the head's own, without a copy of the anchors for each image."""
    sizes = [maps.shape[-2:] for maps in cls_scores]
    anchors, flags = head.get_anchors(sizes, batch_img_metas, device=cls_scores[0].device)
    *targets, avg_factor = head.get_targets(
        anchors,
        flags,
        batch_gt_instances,
        batch_img_metas,
        batch_gt_instances_ignore=batch_gt_instances_ignore,
    )
    repeated = [level.expand(len(batch_img_metas), -1, -1) for level in anchors[0]]
    losses_cls, losses_bbox = multi_apply(
        head.loss_by_feat_single, cls_scores, bbox_preds, repeated, *targets, avg_factor=avg_factor
    )
    return dict(loss_cls=losses_cls, loss_bbox=losses_bbox)


def inside_flags(
    anchors: Tensor, valid_flag_list: list[list[Tensor]], metas: list[dict[str, Any]], border: float
) -> Tensor:
    """Which priors take part in each image, (N, P)."""
    numbers: dict[int, int] = {}
    which = [numbers.setdefault(id(flags), len(numbers)) for flags in valid_flag_list]
    distinct = [torch.cat(valid_flag_list[which.index(number)]) for number in range(len(numbers))]
    inside = torch.stack(distinct)[torch.tensor(which).to(anchors.device, non_blocking=True)]
    if border >= 0:
        shapes = torch.tensor([meta['img_shape'][:2] for meta in metas]) + border
        height, width = shapes.to(anchors.device, non_blocking=True).t()[..., None]
        inside &= (anchors[:, :2] >= -border).all(dim=1)
        inside &= (anchors[:, 2] < width) & (anchors[:, 3] < height)
    return inside
