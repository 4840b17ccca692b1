"""Prior generators and box coders: built from configs, and as numbers."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from mmdet.registry import TASK_UTILS
from torch import Tensor


class LevelAnchors(NamedTuple):
    """The anchors of a level, by the first cell."""

    sizes: Tensor  # (A, 2), width and height in pixels
    centers: Tensor  # (A, 2), x and y in pixels
    stride: tuple[float, float]  # in x and y


def build_task_util(config: Any) -> Any:
    """Build a config of a prior generator or box coder; an instance is returned as it is.

    A name without a scope is mmdet's, whatever the surrounding default scope.
    """
    if not isinstance(config, Mapping):
        return config
    return TASK_UTILS.build({'_scope_': 'mmdet', **config})


def level_anchors(
    prior_generator: Any, strides: Sequence[float] | None = None
) -> list[LevelAnchors]:
    """The anchors that a generator puts on each level.

    Args:
        prior_generator: config or instance of an anchor generator (mmdet's AnchorGenerator,
            SSDAnchorGenerator, YOLOAnchorGenerator and their kin), or a list of (w, h) in cells,
            which every level then shares.
        strides: of the levels; with a list of (w, h) only.

    Raises:
        ValueError: if there are no anchors.

    Example:
        >>> first, second = level_anchors([(1, 2)], strides=[8, 16])
        >>> second.sizes, second.centers, second.stride
        (tensor([[16., 32.]]), tensor([[8., 8.]]), (16, 16))
    """
    if isinstance(prior_generator, list | tuple):
        if not strides or not prior_generator:
            raise ValueError(
                'a list of anchors (w, h) in cells needs the strides of the levels, got '
                f'{prior_generator} and strides={strides}. Set `strides=[8, 16, 32]` or so.'
            )
        cells = torch.tensor(prior_generator, dtype=torch.float32).reshape(-1, 2)
        return [LevelAnchors(cells * s, torch.full_like(cells, s / 2), (s, s)) for s in strides]
    generator = build_task_util(prior_generator)
    base_anchors = getattr(generator, 'base_anchors', None)
    if base_anchors is None:
        raise ValueError(
            'prior_generator must make anchors, which have a width and a height, got '
            f'{type(generator).__name__}. A model without anchors cannot be used here: give the '
            'anchors of another model, or a list of (w, h) in cells with `strides`.'
        )
    return [
        LevelAnchors(boxes[:, 2:] - boxes[:, :2], (boxes[:, :2] + boxes[:, 2:]) / 2, stride)
        for boxes, stride in zip(base_anchors, generator.strides, strict=True)
    ]


def level_priors(prior_generator: Any) -> list[LevelAnchors]:
    """:func:`level_anchors`; a point counts as an anchor of its stride's size.

    Raises:
        ValueError: if the generator makes neither anchors nor points.

    Example:
        >>> points = {'type': 'MlvlPointGenerator', 'strides': [8], 'offset': 0}
        >>> level_priors(points)[0].sizes, level_priors(points)[0].centers
        (tensor([[8., 8.]]), tensor([[0., 0.]]))
    """
    generator = build_task_util(prior_generator)
    offset = getattr(generator, 'offset', None)
    if offset is None:
        return level_anchors(generator)
    strides = [torch.tensor([stride], dtype=torch.float32) for stride in generator.strides]
    return [
        LevelAnchors(size, size * offset, stride)
        for size, stride in zip(strides, generator.strides, strict=True)
    ]
