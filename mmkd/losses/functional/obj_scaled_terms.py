"""The terms of ``ObjScaledBoxCls`` in its two forms, side by side: corrected and reference."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from mmkd.distributed.avg_factor import across_ranks
from mmkd.geometry.multi_level_maps import upcast
from mmkd.losses.functional.cell_sum import cell_sum

#: The weights of the levels -> the sum of weight * distance of the boxes.
Boxes: TypeAlias = Callable[[Sequence[Tensor]], Tensor]
#: box, cls and obj, each a scalar.
Terms: TypeAlias = tuple[Tensor, Tensor, Tensor]


class Level(NamedTuple):
    """What the terms are made of, of one level."""

    cls_S: Tensor  # (B, A, C, H, W)
    cls_T: Tensor
    cls_weight: Tensor  # (B, A, H, W), w, the teacher's objectness, or of a sample of priors
    box_weight: Tensor  # (B, A, H, W), w, or of that sample
    obj_S: Tensor | None  # (B, A, H, W)
    obj_T: Tensor | None
    weight: Tensor  # (B, A, H, W), w
    obj_weight: float  # v
    overwrite: bool  # whether the memory of cls_T is free


def corrected_terms(
    levels: Sequence[Level],
    boxes: Boxes,
    cls_loss: str | None,
    temperature: float,
    scale_obj: bool,
) -> Terms:
    """Boxes and classes as means over objectness, on all ranks; objectness taught everywhere.

    Args:
        levels: of the heads' maps.
        boxes: the distances of the boxes, summed.
        cls_loss: 'bce', 'l2', 'kl' or None: no classes. See
            :func:`mmkd.losses.functional.cell_sum.cell_sum`.
        temperature: tau.
        scale_obj: weight obj by w, too.
    """
    w = _row([level.weight for level in levels])
    total = across_ranks(w.sum(), w, 1e-6)
    box = boxes([level.box_weight for level in levels])
    zero = box.new_zeros(())
    cls = [zero]
    for level in levels:
        if cls_loss and level.cls_S.size(2) > 1:
            cls.append(_classes(level, cls_loss, temperature))
    obj = zero
    if levels[0].obj_S is not None:
        logits = _row([upcast(level.obj_S) for level in levels if level.obj_S is not None])
        bce = F.binary_cross_entropy_with_logits(logits, w, reduction='none')
        v = _spread([level.obj_weight for level in levels], levels, mean=not scale_obj)
        obj = (bce * w * v).sum() / total if scale_obj else (bce * v).sum()
    return box / total, torch.stack(cls).sum() / total, obj


def reference_terms(
    levels: Sequence[Level],
    boxes: Boxes,
    cls_loss: str | None,
    temperature: float,
    coordinates: int,
) -> Terms:
    """All as means over every element, weighted by objectness, summed over levels.

    Args:
        levels: of the heads' maps.
        boxes: the distances of the boxes, summed.
        cls_loss: 'bce', whose targets are the teacher's raw logits, 'l2', 'kl' or None: no
            classes.
        temperature: tau, of 'kl'.
        coordinates: how many elements a box has: those that its distance sums over.
    """
    kind = 'bce_raw' if cls_loss == 'bce' else cls_loss
    weights = [level.box_weight / (level.weight.numel() * coordinates) for level in levels]
    box = boxes(weights)
    zero = box.new_zeros(())
    cls, obj = [zero], zero
    for level in levels:
        classes = level.cls_S.size(2)
        if kind and classes > 1:
            terms = _classes(level, kind, temperature)
            cls.append(terms / (level.weight.numel() * classes))
    if levels[0].obj_S is not None:
        obj_S, obj_T = (
            _row([upcast(o) for o in objs if o is not None])
            for objs in ([level.obj_S for level in levels], [level.obj_T for level in levels])
        )
        w = _row([level.weight for level in levels])
        v = _spread([level.obj_weight for level in levels], levels)
        obj = ((obj_S - obj_T).square() * w * v).sum()
    return box, torch.stack(cls).sum(), obj


def _classes(level: Level, kind: str, temperature: float) -> Tensor:
    maps = level.cls_S, level.cls_T, level.cls_weight
    return cell_sum(*maps, kind, temperature, level.overwrite)


def _row(maps: Sequence[Tensor]) -> Tensor:
    """Maps (B, A, H, W) of all levels side by side: (B, P)."""
    return torch.cat([m.flatten(1) for m in maps], dim=1)


def _spread(factors: Sequence[float], levels: Sequence[Level], mean: bool = True) -> Tensor:
    """(P,), each level's factor, by its number of elements if a mean is wanted."""
    like = levels[0].weight
    return torch.cat(
        [
            like.new_full((w[0].numel(),), factor / (w.numel() if mean else 1))
            for factor, w in zip(factors, [level.weight for level in levels], strict=True)
        ]
    )
