"""``SSDHead``: hard negatives and loss of a whole batch."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmdet.models.losses import smooth_l1_loss
from torch import Tensor


def loss_by_feat(
    head: Any,
    cls_scores: Sequence[Tensor],
    bbox_preds: Sequence[Tensor],
    batch_gt_instances: Sequence[Any],
    batch_img_metas: list[dict[str, Any]],
    batch_gt_instances_ignore: Sequence[Any] | None = None,
) -> dict[str, Tensor]:
    """As the head's own, with the sum over the images for its list of them.

    The gradients are the same to the bit on a CPU; the sums are up to rounding.
    """
    sizes = [maps.shape[-2:] for maps in cls_scores]
    anchors, flags = head.get_anchors(sizes, batch_img_metas, device=cls_scores[0].device)
    *targets, avg_factor = head.get_targets(
        anchors,
        flags,
        batch_gt_instances,
        batch_img_metas,
        batch_gt_instances_ignore=batch_gt_instances_ignore,
        unmap_outputs=True,
    )
    labels, label_weights, box_targets, box_weights = (torch.cat(part, dim=1) for part in targets)
    scores, boxes = (
        torch.cat([m.permute(0, 2, 3, 1).reshape(len(m), -1, width) for m in maps], dim=1)
        for maps, width in ((cls_scores, head.cls_out_channels), (bbox_preds, 4))
    )

    loss = F.cross_entropy(scores.flatten(0, 1), labels.flatten(), reduction='none')
    loss = loss.view_as(labels) * label_weights
    is_object = (labels >= 0) & (labels < head.num_classes)
    number = head.train_cfg['neg_pos_ratio'] * is_object.sum(dim=1)
    hard = hard_negatives(loss.detach(), labels == head.num_classes, number)
    # Not a product: the loss of what is left out may be infinite.
    loss_cls = torch.where(is_object | hard, loss, 0).sum() / avg_factor

    if head.reg_decoded_bbox:
        own = torch.cat(anchors[0]).expand_as(boxes)
        boxes = head.bbox_coder.decode(own.reshape(-1, 4), boxes.flatten(0, 1)).view_as(boxes)
    loss_bbox = smooth_l1_loss(
        boxes, box_targets, box_weights, beta=head.train_cfg['smoothl1_beta'], avg_factor=avg_factor
    )
    return dict(loss_cls=loss_cls, loss_bbox=loss_bbox)


def hard_negatives(loss: Tensor, negative: Tensor, number: Tensor) -> Tensor:
    """The negatives of the greatest loss in each image, those that mmdet's ``topk`` takes.

    Args:
        loss: (N, P).
        negative: (N, P) bool.
        number: (N,) int64, how many to take; all, where an image has fewer.

    Returns:
        Tensor: (N, P) bool.

    Of priors with the same loss ``topk`` takes the first on a GPU, which a stable sort does, too,
    without a wait for the numbers. On a CPU its choice follows from how it partitions the list, so
    it is asked.
    """
    if loss.device.type != 'cpu':
        return _greatest(loss, negative, number)
    hard = torch.zeros_like(negative)
    number = torch.minimum(number, negative.sum(dim=1))
    for image, take in enumerate(number.tolist()):
        places = negative[image].nonzero().squeeze(1)
        hard[image, places[loss[image, places].topk(take, sorted=False).indices]] = True
    return hard


def _greatest(loss: Tensor, negative: Tensor, number: Tensor) -> Tensor:
    """:func:`hard_negatives`, of the same loss the first."""
    ranked = loss.masked_fill(~negative, -torch.inf).argsort(dim=1, descending=True, stable=True)
    taken = torch.arange(loss.size(1), device=loss.device) < number[:, None]
    return torch.zeros_like(negative).scatter_(1, ranked, taken) & negative
