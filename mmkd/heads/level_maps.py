"""The raw maps of heads with classes, boxes and objectness (torch only)."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from mmkd.geometry.multi_level_maps import Levels, describe, paired_levels, upcast


class LevelMaps(NamedTuple):
    """One head's maps of one level, anchors apart."""

    cls: Tensor  # (B, A, C, H, W)
    box: Tensor  # (B, A, 4, H, W)
    obj: Tensor | None  # (B, A, H, W)


def paired_head_maps(
    preds_S: Sequence[Levels], preds_T: Sequence[Levels], num_classes: int | None = None
) -> tuple[list[LevelMaps], list[LevelMaps]]:
    """Both heads' maps level by level, the teacher's detached.

    Args:
        preds_S: (cls_scores, bbox_preds, objectnesses), each a map or levels: (B, A * C, H, W),
            (B, A * 4, H, W) and (B, A, H, W), anchor-major; the last may be missing or None.
        preds_T: the teacher's, of the same shapes.
        num_classes: C; None for that of the student's maps, if these are of its form.

    Raises:
        ValueError: if they are not of that form, or differ.
    """
    kinds_S, kinds_T = _kinds('preds_S', preds_S), _kinds('preds_T', preds_T)
    if len(kinds_S) != len(kinds_T):
        raise ValueError(
            'student and teacher must both have objectness or both lack it, got '
            f'{len(kinds_S)} and {len(kinds_T)} kinds of maps. Drop it from the one that has it.'
        )
    pairs = [
        paired_levels(s, t, 'classes, anchors and strides')
        for s, t in zip(kinds_S, kinds_T, strict=True)
    ]
    shapes = [[(m.size(0), *m.shape[2:]) for m in levels] for levels, _ in pairs]
    if any(shape != shapes[0] for shape in shapes):
        raise ValueError(
            'cls_scores, bbox_preds and objectnesses must have the same levels, got '
            f'{describe([levels for levels, _ in pairs])}. Record one head in one step.'
        )
    if num_classes is None:  # A * C / (A * 4 / 4)
        num_classes = max(pairs[0][0][0].size(1) * 4 // pairs[1][0][0].size(1), 1)
    for level, box in enumerate(pairs[1][0]):
        anchors = box.size(1) // 4
        expected = [anchors * num_classes, anchors * 4, anchors][: len(pairs)]
        received = [levels[level].size(1) for levels, _ in pairs]
        if expected != received or anchors == 0:
            raise ValueError(
                f'a level needs A * {num_classes} class, A * 4 box and A objectness channels, got '
                f"{received} on level {level}. Is num_classes={num_classes} the head's?"
            )
    sides = []
    for side in (0, 1):
        kinds = [pair[side] for pair in pairs]
        objs = kinds[2] if len(kinds) == 3 else [None] * len(kinds[0])
        sides.append(
            [
                LevelMaps(cls.unflatten(1, (-1, num_classes)), box.unflatten(1, (-1, 4)), obj)
                for cls, box, obj in zip(kinds[0], kinds[1], objs, strict=True)
            ]
        )
    return sides[0], sides[1]


def _kinds(name: str, preds: Any) -> list[Levels]:
    kinds = [k for k in preds if k is not None] if isinstance(preds, list | tuple) else []
    if len(kinds) not in (2, 3):
        raise ValueError(
            f'{name} must be (cls_scores, bbox_preds, objectnesses) or (cls_scores, bbox_preds), '
            f'got {describe(preds)}. Map it to the whole output of the head, without data_idx; '
            "mmdet's YOLOv3 needs the connector SplitPredMaps."
        )
    return kinds


def foreground(logits: Tensor) -> Tensor:
    """What a softmax head sees, between 0 and 1: all but the background, the last of its classes.

    Args:
        logits: (..., C + 1).

    Returns:
        Tensor: (...), 1 - P(background).

    Example:
        >>> foreground(torch.tensor([[0.0, 0.0, 0.0, 0.0], [9.0, 0.0, 0.0, -9.0]]))
        tensor([0.7500, 1.0000])
    """
    return logits[..., :-1].logsumexp(-1).sub(logits[..., -1]).sigmoid()


def check_score_thr(score_thr: float) -> None:
    """Refuse a bound of :func:`foreground` that keeps nothing, or is none.

    Raises:
        ValueError: it is outside [0, 1).
    """
    if not 0 <= score_thr < 1:
        raise ValueError(f'score_thr must be at least 0 and below 1, got {score_thr}.')


def teacher_weight(maps: LevelMaps, nms_kernel: int | None = None) -> Tensor:
    """What the teacher sees, between 0 and 1: its objectness, or its highest class probability.

    Feature-map NMS (Mehta & Ozturk 2018, section 3.2) keeps of the priors of the same class in
    K x K neighbouring cells only the one of the highest objectness; the others become 0.

    Args:
        maps: the teacher's.
        nms_kernel: K, odd; None for no NMS.

    Returns:
        Tensor: (B, A, H, W), at least float32.

    Example:
        >>> cls, box = torch.zeros(1, 1, 2, 1, 3), torch.zeros(1, 1, 4, 1, 3)
        >>> maps = LevelMaps(cls, box, torch.tensor([[[[0.0, 2.0, 1.0]]]]))
        >>> teacher_weight(maps, nms_kernel=3)
        tensor([[[[0.0000, 0.8808, 0.0000]]]])
    """
    logit = maps.cls.amax(2) if maps.obj is None else maps.obj
    weight = upcast(logit).sigmoid()
    if nms_kernel is None:
        return weight
    batch, _, classes, height, width = maps.cls.shape
    label = maps.cls.argmax(2)  # (B, A, H, W)
    # The best of each class in each cell, over anchors, then over neighbours: (B, C, H, W).
    best = weight.new_zeros(batch, classes, height, width).scatter_reduce_(1, label, weight, 'amax')
    best = F.max_pool2d(best, nms_kernel, stride=1, padding=nms_kernel // 2)
    return torch.where(weight >= best.gather(1, label), weight, 0)
