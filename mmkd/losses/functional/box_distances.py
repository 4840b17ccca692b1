"""How far the student's raw boxes are from the teacher's, for each prior."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mmkd.geometry.multi_level_maps import upcast
from mmkd.heads.bbox_coder import activate, decode
from mmkd.heads.level_anchors import LevelAnchors
from mmkd.heads.level_maps import LevelMaps
from mmkd.losses.functional.cell_sum import cell_sum
from mmkd.losses.functional.iou_losses import IOU_LOSSES


def box_sum(
    maps_S: Sequence[LevelMaps],
    maps_T: Sequence[LevelMaps],
    weights: Sequence[Tensor],
    kind: str,
    coder: str,
    reg_norm: float | Sequence[float] | None = None,
    priors: Sequence[LevelAnchors] | None = None,
) -> Tensor:
    """Sum over all cells of weight * distance.

    The distance is :func:`iou_distance` with ``priors``, else :func:`box_distance`.

    Args:
        maps_S: the student's levels.
        maps_T: the teacher's.
        weights: (B, A, H, W) of each level.
        kind: 'l2' or 'decoded'; with ``priors`` 'iou', 'giou', 'diou' or 'ciou'.
        coder: see :func:`mmkd.heads.bbox_coder.activate`.
        reg_norm: of 'l2', for all levels or for each.
        priors: of each level.
    """
    squared = _SQUARES.get((kind, coder)) or _SQUARES.get((kind, ''))
    if squared and reg_norm is None and len({s.box.size(1) for s in maps_S}) == 1:
        # All levels at once; the copy of the teacher's is nobody else's.
        boxes_S, boxes_T = (
            torch.cat([upcast(m.box).flatten(3) for m in maps], 3).unsqueeze(4)
            for maps in (maps_S, maps_T)
        )
        weight = torch.cat([w.flatten(2) for w in weights], 2).unsqueeze(3)
        return cell_sum(boxes_S, boxes_T, weight, squared, overwrite=True)
    sums = []
    for level, (s, t, weight) in enumerate(zip(maps_S, maps_T, weights, strict=True)):
        box_S, box_T = upcast(s.box), upcast(t.box)
        if priors:
            distance = iou_distance(box_S, box_T, priors[level], kind, coder)
        else:
            norm = reg_norm[level] if isinstance(reg_norm, Sequence) else reg_norm
            distance = box_distance(box_S, box_T, kind, coder, norm)
        sums.append((distance * weight).sum())
    return torch.stack(sums).sum()


#: The kinds of :func:`cell_sum` that are a box distance, by its kind and coder.
_SQUARES = {
    ('l2', ''): 'l2',
    ('decoded', 'yolov5'): 'l2_sigmoid',
    ('decoded', 'yolox'): 'l2',
}


def box_distance(
    box_S: Tensor, box_T: Tensor, kind: str, coder: str, reg_norm: float | None = None
) -> Tensor:
    """(B, A, H, W): squared distance of two box maps, summed over the 4 coordinates.

    Args:
        box_S: (B, A, 4, H, W), raw.
        box_T: (B, A, 4, H, W), raw.
        kind: 'l2' on what is given, 'decoded' on what the head makes of it.
        coder: see :func:`mmkd.heads.bbox_coder.activate`.
        reg_norm: of 'l2': compare sigmoids, the teacher's width and height times this.
    """
    if kind == 'decoded':
        box_S, box_T = activate(box_S, coder), activate(box_T, coder)
    elif reg_norm is not None:
        scale = box_T.new_tensor([1, 1, reg_norm, reg_norm])[:, None, None]
        box_S, box_T = box_S.sigmoid(), box_T.sigmoid() * scale
    return (box_S - box_T).square().sum(2)


def iou_distance(
    box_S: Tensor, box_T: Tensor, anchors: LevelAnchors, kind: str, coder: str
) -> Tensor:
    """(B, A, H, W): mmdet's IoU loss of this kind between the decoded boxes."""
    boxes_S, boxes_T = (decode(box, *anchors, coder) for box in (box_S, box_T))
    distance = IOU_LOSSES[kind](boxes_S.reshape(-1, 4), boxes_T.reshape(-1, 4))
    return distance.view(boxes_S.shape[:-1])
