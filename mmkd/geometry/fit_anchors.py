"""Settings of an anchor generator that fit the objects of a data set (torch only)."""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mmkd.geometry.prior_fit import shape_iou, shape_ratio

#: More objects tell nothing new of a share.
MOST = 1000

#: Quantiles of the objects' shapes from which settings are tried.
_LOW, _HIGH = (0.01, 0.05, 0.1, 0.2), (0.8, 0.9, 0.95, 0.99)


class Fitted(NamedTuple):
    """What was found.

    Args:
        settings: arguments of the anchor generator, with its ``type`` and ``strides``.
        share: of the objects with an anchor that fits, 0 to 1.
    """

    settings: dict[str, Any]
    share: float


def fit_anchors(
    sizes: Tensor, generator: Mapping[str, Any], threshold: float | None = None
) -> Fitted:
    """Fit an anchor generator to objects; the number of anchors per cell stays.

    Args:
        sizes: (G, 2), width and height of the objects in input pixels.
        generator: the settings of mmdet's ``SSDAnchorGenerator`` (SSD), ``AnchorGenerator``
            (RetinaNet, RPN) or ``YOLOAnchorGenerator`` (YOLOv3, YOLOv5): at least ``type`` and
            ``strides``. Where it has no ratios, scales or base sizes, there are as many as
            SSD300, RetinaNet and YOLOv5 have.
        threshold: the least IoU of an object and its anchor or, above 1, the greatest ratio of
            widths or heights. Defaults to None: 4 for a ``YOLOAnchorGenerator``, else 0.5.

    Returns:
        Fitted: for SSD ``min_sizes``, ``max_sizes`` and ``ratios``; for RetinaNet
        ``octave_base_scale`` and ``ratios``; with ``scales`` in place of octaves, ``scales``, and
        with ``base_sizes`` those, too; for YOLO ``base_sizes``.

    Raises:
        ValueError: no object, or a generator of another type.

    Example:
        >>> sizes = torch.tensor([[20.0, 40.0], [40.0, 80.0], [80.0, 160.0]])
        >>> found = fit_anchors(sizes, dict(type='YOLOAnchorGenerator', strides=[8, 16, 32]))
        >>> found.share, found.settings['base_sizes'][2][0]
        (1.0, (80, 160))
    """
    kind = str(generator.get('type')).rpartition('.')[2]
    sizes = sizes[(sizes > 0).all(dim=1)].double()
    if kind not in _FITS or not len(sizes):
        raise ValueError(
            f'anchors are fitted to at least one object, and of the types {", ".join(_FITS)}, but '
            f'got {len(sizes)} objects and "{kind}". Name one of them.'
        )
    if len(sizes) > MOST:
        sizes = sizes[torch.linspace(0, len(sizes) - 1, MOST).long()]
    strides = [max(s) if isinstance(s, Sequence) else s for s in generator['strides']]
    candidates = _FITS[kind](sizes, strides, generator)
    limit = (4.0 if kind == 'YOLOAnchorGenerator' else 0.5) if threshold is None else threshold
    measure = _ratios_share if limit > 1 else _iou_share
    best, found = (-1.0, -1.0), {}
    for settings, anchors in candidates:
        score = measure(sizes, anchors, strides, limit)
        if score > best:
            best, found = score, settings
    return Fitted({**generator, **found}, best[0])


def _iou_share(
    sizes: Tensor, anchors: list[Tensor], strides: Sequence[float], limit: float
) -> tuple[float, float]:
    """Share of the objects that reach the threshold; to choose among equals, the mean best IoU."""
    offsets = [torch.full_like(a, s / 4) for a, s in zip(anchors, strides, strict=True)]
    best = shape_iou(sizes, torch.cat(anchors), torch.cat(offsets)).amax(1)
    return (best >= limit).double().mean().item(), best.mean().item()


def _ratios_share(
    sizes: Tensor, anchors: list[Tensor], strides: Sequence[float], limit: float
) -> tuple[float, float]:
    best = shape_ratio(sizes, torch.cat(anchors)).amin(1)
    return (best < limit).double().mean().item(), (1 / best).mean().item()


Candidates = Iterable[tuple[dict[str, Any], list[Tensor]]]


def _of_ssd(sizes: Tensor, strides: Sequence[float], generator: Mapping[str, Any]) -> Candidates:
    levels = len(strides)
    given = generator.get('ratios') or [[2, 3]] * levels
    most = max(map(len, given))
    for low, high in _ranges(sizes):
        steps = [low * (high / low) ** (i / levels) for i in range(levels + 1)]
        edges = [max(round(step), 1) for step in steps]
        edges = list(itertools.accumulate(edges, lambda last, edge: max(edge, last + 1)))
        for ratios in _ratios(sizes, most):
            of_level = [list(ratios[: len(one)]) for one in given]
            settings = dict(min_sizes=edges[:-1], max_sizes=edges[1:], ratios=of_level)
            yield (
                settings,
                [
                    _of_ssd_level(*pair, of_level[i])
                    for i, pair in enumerate(itertools.pairwise(edges))
                ],
            )


def _of_ssd_level(least: float, most: float, ratios: Sequence[float]) -> Tensor:
    between = math.sqrt(least * most)
    wide = [(least * math.sqrt(r), least / math.sqrt(r)) for r in ratios]
    shapes = [(least, least), (between, between), *wide, *((h, w) for w, h in wide)]
    return torch.tensor(shapes, dtype=torch.float64)


def _of_octaves(
    sizes: Tensor, strides: Sequence[float], generator: Mapping[str, Any]
) -> Candidates:
    """``AnchorGenerator``, whose ratios are height over width."""
    if generator.get('base_sizes') is not None:
        yield from _of_base_sizes(sizes, strides, generator)
        return
    ratios = list(generator.get('ratios') or [0.5, 1.0, 2.0])
    scales, octave = generator.get('scales'), int(generator.get('scales_per_octave') or 3)
    if scales is not None:
        relative = [scale / scales[0] for scale in scales]
    else:
        relative = [2 ** (i / octave) for i in range(octave)]
    for first in (0.5, 0.75, 1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10, 12):
        own = [first * scale for scale in relative]
        if scales is not None:
            change: dict[str, Any] = dict(scales=[round(scale, 2) for scale in own])
        else:
            change = dict(octave_base_scale=first, scales_per_octave=octave)
        for shape in [ratios, *_tall_ratios(sizes, len(ratios))]:
            anchors = [_grid(stride, own, shape) for stride in strides]
            yield dict(change, ratios=list(shape)), anchors


def _of_base_sizes(
    sizes: Tensor, strides: Sequence[float], generator: Mapping[str, Any]
) -> Candidates:
    scales, levels = list(generator.get('scales') or [1.0]), len(strides)
    ratios = list(generator.get('ratios') or [1.0])
    for low, high in _ranges(sizes):
        step = (high / low) ** (1 / levels)
        base = [max(round(low * step**i), 1) for i in range(levels)]
        own = [round(step ** (i / len(scales)), 2) for i in range(len(scales))]
        for shape in _tall_ratios(sizes, len(ratios)):
            anchors = [_grid(size, own, shape) for size in base]
            yield dict(base_sizes=base, scales=own, ratios=list(shape)), anchors


def _grid(base: float, scales: Sequence[float], ratios: Sequence[float]) -> Tensor:
    shapes = [(base * s / math.sqrt(r), base * s * math.sqrt(r)) for r in ratios for s in scales]
    return torch.tensor(shapes, dtype=torch.float64)


def _of_yolo(sizes: Tensor, strides: Sequence[float], generator: Mapping[str, Any]) -> Candidates:
    """Centres of clusters in the logarithms of width and height (Lloyd), smallest first."""
    levels = len(strides)
    each = len((generator.get('base_sizes') or [[0] * 3])[0])
    points, count = sizes.log(), levels * each
    order = points.sum(1).argsort()
    centres = points[order[torch.linspace(0, len(points) - 1, count).round().long()]]
    for _ in range(30):
        nearest = torch.cdist(points, centres).argmin(1)
        for i in nearest.unique().tolist():
            centres[i] = points[nearest == i].mean(0)
    shapes = centres[centres.sum(1).argsort()].exp().round().clamp(min=1).int().tolist()
    finest_first = sorted(range(levels), key=strides.__getitem__)
    base: list[Any] = [[]] * levels
    for i, level in enumerate(finest_first):
        base[level] = [tuple(shape) for shape in shapes[i * each : (i + 1) * each]]
    yield dict(base_sizes=base), [torch.tensor(level, dtype=torch.float64) for level in base]


def _ranges(sizes: Tensor) -> list[tuple[float, float]]:
    """Pairs of a small and a large side length, from the objects' own."""
    sides = sizes.prod(1).sqrt()
    lows, highs = (torch.quantile(sides, sides.new_tensor(q)).tolist() for q in (_LOW, _HIGH))
    pairs = [(low, max(high, 1.3 * low)) for low in lows for high in highs]
    return list(dict.fromkeys(pairs))


def _ratios(sizes: Tensor, count: int) -> list[tuple[float, ...]]:
    """Of the longer to the shorter side, ascending; an anchor of each lies and one stands."""
    longer = sizes.amax(1) / sizes.amin(1)
    quantiles = torch.quantile(longer, longer.new_tensor((0.3, 0.5, 0.7, 0.85, 0.95))).tolist()
    values = sorted({max(round(value, 1), 1.1) for value in quantiles} | {2.0, 3.0})
    return list(itertools.combinations(values, min(count, len(values)))) if count else [()]


def _tall_ratios(sizes: Tensor, count: int) -> list[tuple[float, ...]]:
    """Of height to width, ascending."""
    tall = sizes[:, 1] / sizes[:, 0]
    found = []
    for edge in (0.02, 0.05, 0.1, 0.2, 0.3):
        at = torch.linspace(edge, 1 - edge, count, dtype=tall.dtype) if count > 1 else [0.5]
        values = torch.quantile(tall.log(), torch.as_tensor(at, dtype=tall.dtype)).exp().tolist()
        found.append(tuple(max(round(value, 2), 0.01) for value in values))
    return list(dict.fromkeys(found))


_FITS = {
    'SSDAnchorGenerator': _of_ssd,
    'AnchorGenerator': _of_octaves,
    'YOLOAnchorGenerator': _of_yolo,
}
