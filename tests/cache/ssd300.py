"""What a trained SSD300 might say of images with 8 objects, made on the spot."""

from typing import Any, NamedTuple

import torch
from mmdet.registry import TASK_UTILS
from mmdet.structures.bbox import bbox_overlaps
from mmengine.config import Config
from torch import Tensor

from tests.tiny import ROOT

SIZES = (38, 19, 10, 5, 3, 1)
ANCHORS = (4, 6, 6, 6, 4, 4)
IMAGES = 2


class Scene(NamedTuple):
    """Teacher's rows and targets of ``IMAGES`` images."""

    generator: Any
    ground_truths: list[Tensor]  # (8, 4) each
    logits: Tensor  # (B, 8732, C + 1)
    boxes: Tensor  # (B, 8732, 4)
    targets: tuple


def levels(rows: Tensor) -> list[Tensor]:
    """Rows (B, 8732, width) as levels (B, A * width, H, W)."""
    parts = rows.split([s * s * a for s, a in zip(SIZES, ANCHORS, strict=True)], dim=1)
    return [
        part.reshape(len(rows), s, s, -1).permute(0, 3, 1, 2).contiguous()
        for part, s in zip(parts, SIZES, strict=True)
    ]


def scene(classes: int, confidence: tuple[float, float] = (0.9, 0.999), seed: int = 0) -> Scene:
    """Background of ``confidence`` away from objects, doubt near them, classes of unequal odds."""
    g = torch.Generator().manual_seed(seed)
    head = Config.fromfile(ROOT / 'configs/ssd300_vgg16_voc.py').model.bbox_head
    generator = TASK_UTILS.build(dict(head.anchor_generator, _scope_='mmdet'))
    priors = torch.cat(generator.grid_priors([(s, s) for s in SIZES], device='cpu'))
    ground_truths, labels, boxes, near = [], [], [], []
    for _ in range(IMAGES):
        extent = 20 + 200 * torch.rand(8, 2, generator=g)
        corner = torch.rand(8, 2, generator=g) * (300 - extent)
        ground_truths.append(torch.cat([corner, corner + extent], 1))
        iou, owner = bbox_overlaps(ground_truths[-1], priors).max(0)
        of_object = torch.randint(classes, (8,), generator=g)[owner]
        labels.append(torch.where(iou >= 0.5, of_object, classes))
        boxes.append(torch.randn(len(priors), 4, generator=g))
        near.append((iou / 0.5).clamp(max=1) ** 2)
    label, closeness = torch.stack(labels), torch.stack(near)
    logits = 2 * torch.randn(*label.shape, classes + 1, generator=g)
    logits += torch.randn(classes + 1, generator=g)
    some = torch.randint(classes, label.shape, generator=g)
    peak = torch.where(label < classes, label, some).unsqueeze(-1)
    logits.scatter_add_(-1, peak, (6 * closeness).unsqueeze(-1))
    low, high = confidence
    sure = torch.logit(low + (high - low) * torch.rand(label.shape, generator=g))
    doubt = 2 * torch.randn(label.shape, generator=g) - 2
    away = (1 - closeness) * sure + closeness * doubt
    logits[..., -1] = logits[..., :-1].logsumexp(-1) + away
    positive = label < classes
    encoded = torch.stack(boxes)
    split = [s * s * a for s, a in zip(SIZES, ANCHORS, strict=True)]
    targets = [
        label,
        torch.ones_like(encoded[..., 0]),
        encoded * positive[..., None],
        positive[..., None].float().repeat(1, 1, 4),
    ]
    parts = tuple(list(target.split(split, dim=1)) for target in targets)
    found = encoded + 0.5 * torch.randn(encoded.shape, generator=g)
    return Scene(generator, ground_truths, logits, found, (*parts, int(positive.sum())))
