"""Priors that fit the objects of a data set, as they come out of the augmentation."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from mmkd.algorithms.build_detector import build_detector
from mmkd.datasets.drawn_objects import DrawnObjects
from mmkd.geometry.fit_anchors import fit_anchors
from mmkd.heads.object_fit import object_fit

#: Share of the objects from which no richer priors are tried.
ENOUGH = 0.92

#: How many ratios and scales an anchor of SSD or RetinaNet has in a cell: the fewest first.
_RICHER = ((2, 2), (3, 2), (3, 3), (4, 3), (5, 3), (6, 4))

#: Least IoU with an anchor that the head asks for.
_IOU = {'ssd': 0.5, 'retinanet': 0.4}

#: More images are not drawn for the fit.
IMAGES = 160


def candidates(
    head: str, strides: tuple[int, ...], drawn: Tensor, whole: Tensor
) -> Iterator[dict[str, Any]]:
    """Settings of anchors to try, the simplest first; one that is empty for heads without.

    Args:
        head: a key of :data:`mmkd.scaffold.recipes.RECIPES`.
        strides: of its levels.
        drawn: (G, 2), width and height of objects behind the augmentation, in input pixels.
        whole: (H, 2), those of all objects before it: what is cut off at a border is no object for
            YOLOv5's clusters, which any shape within four times of one of them fits.
    """
    if head == 'yolov5':
        fitted = fit_anchors(whole, dict(type='YOLOAnchorGenerator', strides=[8, 16, 32]))
        yield dict(base_sizes=fitted.settings['base_sizes'])
        return
    if head not in _IOU:
        yield {}
        return
    for ratios, scales in _RICHER:
        start = dict(
            type='AnchorGenerator',
            strides=list(strides),
            base_sizes=list(strides),
            scales=[1.0] * scales,
            ratios=[1.0] * ratios,
        )
        settings = fit_anchors(drawn, start, _IOU[head]).settings
        own = {key: settings[key] for key in ('base_sizes', 'scales', 'ratios')}
        yield own if strides == (8, 16, 32) else dict(strides=list(strides), **own)


def share_that_fits(model: Any, drawn: DrawnObjects) -> tuple[float, str]:
    """The share of the objects that a detector can be taught, and its rule.

    Args:
        model: config of the detector, all that it inherits resolved.
        drawn: the objects; some.
    """
    with torch.random.fork_rng(devices=[]):
        built = build_detector(model)
    fits, rule = [], ''
    for boxes, size in zip(drawn.boxes, drawn.sizes, strict=True):
        found = object_fit(built, boxes, size)
        if isinstance(found, str):
            return 1.0, found
        fits.append(found.fits)
        rule = found.rule
    return torch.cat(fits).double().mean().item(), rule


def sizes_of(drawn: DrawnObjects) -> Tensor:
    """(G, 2), width and height of drawn objects, at least a pixel."""
    boxes = torch.cat(drawn.boxes)
    return (boxes[:, 2:] - boxes[:, :2]).clamp(min=1)
