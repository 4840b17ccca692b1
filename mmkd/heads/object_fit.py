"""Which objects a head can be taught, by the rule by which it finds its own targets."""

import re
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mmkd.geometry.prior_fit import best_grid_iou, shape_ratio
from mmkd.heads.readers import names_of

#: Assigners that choose in each step among the priors whose centre is in the object.
_CANDIDATES = re.compile('DynamicSoftLabel|SimOTA|TaskAligned|ATSS|DSL')


class ObjectFit(NamedTuple):
    """Objects of one image size against the priors of a head.

    Args:
        fits: (G,) bool: some prior is for the object by the head's rule.
        only_forced: (G,) bool: none is, and the object is given to its nearest prior all the same,
            though that would be background for any other.
        rule: what fits, in words.
    """

    fits: Tensor
    only_forced: Tensor
    rule: str


def object_fit(model: Any, boxes: Tensor, size: tuple[int, int]) -> ObjectFit | str:
    """Compare objects with the priors that a detector trains with.

    Args:
        model: a detector; of a two-stage one it is the RPN's priors.
        boxes: (G, 4) in input pixels.
        size: (height, width) of the input.

    Returns:
        The fit; or why there is none, in words.
    """
    head = training_head(model)
    if head is None:
        return 'the model has no dense head'
    boxes = boxes.float()
    if hasattr(head, 'prior_match_thr') and hasattr(head, 'priors_base_sizes'):
        return _by_ratio(head, boxes)
    priors: Any = getattr(head, 'prior_generator', None)
    if not hasattr(priors, 'grid_priors'):
        return f'{type(head).__name__} has no priors'
    strides = [s if isinstance(s, tuple) else (s, s) for s in priors.strides]
    cells = [(-(-size[0] // h), -(-size[1] // w)) for w, h in strides]
    if getattr(head, 'regress_ranges', None) and _targets_of_fcos(head):
        return _by_range(head, boxes, cells)
    assigner = getattr(head, 'assigner', None)
    if hasattr(assigner, 'pos_iou_thr') and hasattr(priors, 'base_anchors'):
        return _by_overlap(head, assigner, boxes, cells, size)
    if assigner is not None and _CANDIDATES.search(type(assigner).__name__):
        return _by_candidates(head, assigner, boxes, cells)
    named = f' and {type(assigner).__name__}' if assigner is not None else ''
    return f'the rule of {type(head).__name__}{named} is not known here'


def training_head(model: Any) -> Any:
    """The dense head whose priors a detector trains with."""
    head = getattr(model, 'rpn_head', None)
    head = getattr(model, 'bbox_head', None) if head is None else head
    stages = getattr(head, 'stages', None)
    return stages[0] if stages is not None else head


def _by_ratio(head: Any, boxes: Tensor) -> ObjectFit:
    strides = boxes.new_tensor(head.featmap_strides).view(-1, 1, 1)
    anchors = (head.priors_base_sizes.to(boxes) * strides).view(-1, 2)
    limit = head.prior_match_thr
    fits = (shape_ratio(boxes[:, 2:] - boxes[:, :2], anchors) < limit).any(1)
    rule = f'a prior whose width and height are within {limit:g} times of the object'
    return ObjectFit(fits, torch.zeros_like(fits), rule)


def _targets_of_fcos(head: Any) -> bool:
    owner = next((k for k in type(head).__mro__ if '_get_targets_single' in vars(k)), None)
    return owner is not None and 'mmdet.FCOSHead' in names_of(head) and owner.__name__ == 'FCOSHead'


def _by_range(head: Any, boxes: Tensor, cells: list[tuple[int, int]]) -> ObjectFit:
    """By FCOS's own targets, each object alone."""
    points = head.prior_generator.grid_priors(cells, dtype=boxes.dtype, device=boxes.device)
    sizes = [len(level) for level in points]
    flat = torch.cat(points)
    counts = torch.tensor(sizes, device=boxes.device)
    ranges = torch.repeat_interleave(boxes.new_tensor(head.regress_ranges), counts, dim=0)
    radius = flat.new_full((len(flat),), float('inf'))
    if head.center_sampling:
        strides = boxes.new_tensor([float(s) for s in head.strides])
        radius = torch.repeat_interleave(strides, counts) * head.center_sample_radius
    fits = []
    for box in boxes:
        distances = torch.cat([flat - box[:2], box[2:] - flat], 1)
        reach = distances.amax(1)
        near = ((flat - (box[:2] + box[2:]) / 2).abs() < radius[:, None]).all(1)
        inside = (distances.amin(1) > 0) & near
        fits.append((inside & (reach >= ranges[:, 0]) & (reach <= ranges[:, 1])).any())
    found = torch.stack(fits) if fits else boxes.new_zeros(0, dtype=torch.bool)
    near = f', within {head.center_sample_radius:g} strides of its centre' * head.center_sampling
    rule = f'a point in the object{near}, in whose range (regress_ranges) the object lies'
    return ObjectFit(found, torch.zeros_like(found), rule)


def _by_overlap(
    head: Any, assigner: Any, boxes: Tensor, cells: list[tuple[int, int]], size: tuple[int, int]
) -> ObjectFit:
    generator = head.prior_generator
    border = (getattr(head, 'train_cfg', None) or {}).get('allowed_border', -1)
    best = boxes.new_zeros(len(boxes))
    edge = boxes.new_tensor([size[1] + border, size[0] + border])
    for anchors, stride, (rows, columns) in zip(
        generator.base_anchors, generator.strides, cells, strict=False
    ):
        own, step = anchors.to(boxes), boxes.new_tensor(stride)
        last = (boxes.new_tensor([columns, rows]) - 1).expand(len(own), 2)
        first = torch.zeros_like(last)
        if border >= 0:  # anchors that leave the image further take no part
            first = torch.maximum(first, ((-border - own[:, :2]) / step).ceil())
            last = torch.minimum(last, ((edge - own[:, 2:]) / step).ceil() - 1)
        bounds = torch.stack([first, last], -1)
        best = torch.maximum(best, best_grid_iou(boxes, own, stride, bounds))
    limit, forces = overlap_needed(assigner)
    fits = best >= limit
    least = getattr(assigner, 'min_pos_iou', 0.0)
    forced = ~fits & forces & (best > 0) & (best >= least)
    rule = f'a prior with an IoU of at least {limit:g}'
    return ObjectFit(fits, forced, rule)


def overlap_needed(assigner: Any) -> tuple[float, bool]:
    """The IoU from which a prior fits, and whether an object without one is given to its best.

    Where each object gets its best prior (``match_low_quality``), that prior fits from
    ``neg_iou_thr`` on: below, it would be background for any other object.
    """
    forces = bool(getattr(assigner, 'match_low_quality', True))
    positive, negative = assigner.pos_iou_thr, getattr(assigner, 'neg_iou_thr', None)
    negative = max(negative) if isinstance(negative, list | tuple) else negative
    limit = min(positive, negative) if forces and negative else positive
    return float(limit), forces


def _by_candidates(
    head: Any, assigner: Any, boxes: Tensor, cells: list[tuple[int, int]]
) -> ObjectFit:
    """By the priors from which a dynamic assigner can choose at all."""
    generator = head.prior_generator
    levels = generator.grid_priors(cells, device=boxes.device)
    priors = torch.cat([getattr(level, 'tensor', level) for level in levels]).to(boxes)
    centres = (priors[:, :2] + priors[:, 2:]) / 2 if priors.size(1) == 4 else priors[:, :2]
    radius, rule = None, 'a prior whose centre is in the object'
    if 'SimOTA' in type(assigner).__name__ and hasattr(assigner, 'center_radius'):
        counts = torch.tensor([len(level) for level in levels], device=boxes.device)
        strides = boxes.new_tensor([s[0] if isinstance(s, tuple) else s for s in generator.strides])
        radius = torch.repeat_interleave(strides, counts) * assigner.center_radius
        rule += f', or within {assigner.center_radius:g} strides of its centre'
    fits = []
    for box in boxes:
        inside = ((centres > box[:2]) & (centres < box[2:])).all(1)
        if radius is not None:
            away = (centres - (box[:2] + box[2:]) / 2).abs().amax(1)
            inside |= away < radius
        fits.append(inside.any())
    found = torch.stack(fits) if fits else boxes.new_zeros(0, dtype=torch.bool)
    return ObjectFit(found, torch.zeros_like(found), rule)


def generator_settings(generator: Any) -> dict[str, Any] | None:
    """The settings of a built anchor generator, as :func:`mmkd.geometry.fit_anchors` takes them.

    None for points, and for generators whose anchors are not made of these settings.
    """
    kind = type(generator).__name__
    strides = [s[0] if isinstance(s, tuple) and s[0] == s[1] else s for s in generator.strides]
    settings: dict[str, Any] = dict(type=kind, strides=strides)
    if kind == 'YOLOAnchorGenerator':
        return dict(settings, base_sizes=generator.base_sizes)
    if kind == 'SSDAnchorGenerator':
        ratios = [level[2::2].round(decimals=4).tolist() for level in generator.ratios]
        return dict(settings, scale_major=generator.scale_major, ratios=ratios)
    if kind != 'AnchorGenerator':
        return None
    settings['ratios'] = generator.ratios.tolist()
    if generator.octave_base_scale is not None:
        settings['scales_per_octave'] = generator.scales_per_octave
    else:
        settings['scales'] = generator.scales.tolist()
        own = [min(s) if isinstance(s, tuple) else s for s in generator.strides]
        if list(generator.base_sizes) != own:
            settings['base_sizes'] = list(generator.base_sizes)
    return settings
