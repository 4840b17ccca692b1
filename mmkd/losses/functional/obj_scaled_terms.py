"""The terms of ``ObjScaledBoxCls`` in its two forms, side by side: corrected and reference."""

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from mmkd.distributed.avg_factor import across_ranks
from mmkd.geometry.multi_level_maps import upcast
from mmkd.heads.level_maps import LevelMaps
from mmkd.losses.functional.cell_sum import cell_sum

#: box, cls and obj, each a scalar.
Terms: TypeAlias = tuple[Tensor, Tensor, Tensor]


class Level(NamedTuple):
    """What the terms are made of, of one level."""

    student: LevelMaps
    teacher: LevelMaps
    weight: Tensor  # (B, A, H, W), w: the teacher's objectness
    distance: Tensor  # (B, A, H, W), of the boxes
    obj_weight: float  # v


def corrected_terms(
    levels: Sequence[Level], cls_loss: str, temperature: float, scale_obj: bool
) -> Terms:
    """Boxes and classes as means over objectness, on all ranks; objectness taught everywhere.

    Args:
        levels: of the heads' maps.
        cls_loss: 'bce', 'l2' or 'kl', see :func:`mmkd.losses.functional.cell_sum.cell_sum`.
        temperature: tau.
        scale_obj: weight obj by w, too.
    """
    weights = [level.weight for level in levels]
    total = across_ranks(torch.stack([w.sum() for w in weights]).sum(), weights[0], 1e-6)
    box = [(level.distance * level.weight).sum() for level in levels]
    zero = box[0].new_zeros(())
    cls, obj = [zero], [zero]
    for s, t, w, _, v in levels:
        if s.cls.size(2) > 1:
            cls.append(cell_sum(s.cls, t.cls, w, cls_loss, temperature))
        if s.obj is not None:
            bce = F.binary_cross_entropy_with_logits(upcast(s.obj), w, reduction='none')
            obj.append(v * ((bce * w).sum() / total if scale_obj else bce.mean()))
    return torch.stack(box).sum() / total, torch.stack(cls).sum() / total, torch.stack(obj).sum()


def reference_terms(
    levels: Sequence[Level], cls_loss: str, temperature: float, coordinates: int
) -> Terms:
    """All as means over every element, weighted by objectness, summed over levels.

    Args:
        levels: of the heads' maps.
        cls_loss: 'bce', whose targets are the teacher's raw logits, 'l2' or 'kl'.
        temperature: tau, of 'kl'.
        coordinates: how many elements a box has: those that its distance sums over.
    """
    kind = 'bce_raw' if cls_loss == 'bce' else cls_loss
    box = [(d * w).sum() / (w.numel() * coordinates) for _, _, w, d, _ in levels]
    zero = box[0].new_zeros(())
    cls, obj = [zero], [zero]
    for s, t, w, _, v in levels:
        if s.cls.size(2) > 1:
            cls.append(cell_sum(s.cls, t.cls, w, kind, temperature) / s.cls.numel())
        if s.obj is not None and t.obj is not None:
            obj.append(v * ((upcast(s.obj) - upcast(t.obj)).square() * w).mean())
    return torch.stack(box).sum(), torch.stack(cls).sum(), torch.stack(obj).sum()
