"""What a detector sees of the images: the size of its input, and the augmentation."""

import math
from typing import Any, NamedTuple

import numpy as np

from mmkd.scaffold.survey import Survey

#: Sides of an input are multiples of the coarsest stride.
_STEP = 32

#: The least side of an input.
_LEAST = 2.0 * _STEP

#: Pixels of an input, the least and the most; and the side that small objects should have.
_AREAS = {'small': (160 * 192, 512 * 384, 16.0), 'medium': (416 * 320, 640 * 640, 24.0)}

#: Of tiny objects: the side without which no level finds them, and the pixels that it may cost.
_TINY, _HUGE = 8.0, 1280 * 1024

#: By this the input grows, in pixels, until its objects are large enough.
_LARGER = 1.25

#: Of the objects the share that may be smaller.
_SMALL = 0.05

#: Images of other aspects than the input are stretched by this much, in this share, at most.
_STRETCH, _STRETCHED = 1.25, 0.1

#: Zoom from and to, and shift as a share of the sides: the strongest first, then those that push
#: ever fewer objects out of the image.
_PHOTOGRAPHS = (
    (0.6, 1.5, 0.2),
    (0.6, 1.25, 0.1),
    (0.7, 1.1, 0.05),
    (0.8, 1.0, 0.0),
    (1.0, 1.0, 0.0),
)
_INSTRUMENT = ((0.8, 1.25, 0.1), (0.8, 1.1, 0.05), (0.8, 1.0, 0.0), (1.0, 1.0, 0.0))

#: Grey around images.
_GREY = (114, 114, 114)


class Views(NamedTuple):
    """How images reach a detector.

    Args:
        scale: (width, height) of the input, in pixels.
        keep_ratio: whether images keep their aspect, with grey around them.
        zoom: from, to, and the greatest shift as a share of the sides.
        flips: directions of ``RandomFlip``.
        colours: whether colours and light are changed.
        why: by choice, in words.
    """

    scale: tuple[int, int]
    keep_ratio: bool
    zoom: tuple[float, float, float]
    flips: tuple[str, ...]
    colours: bool
    why: dict[str, str]


def zooms(seen: Survey, views: Views, size: str) -> list[tuple[float, float, float]]:
    """What may be zoomed and shifted, the strongest first; small objects do not become smaller."""
    found = _INSTRUMENT if seen.one_instrument else _PHOTOGRAPHS
    sides = seen.sides(*views.scale, views.keep_ratio)
    least = 1.0 if np.quantile(sides, _SMALL) < _AREAS[size][2] else 0.0
    own = [(max(low, least), max(high, least), shift) for low, high, shift in found]
    return list(dict.fromkeys(own))


def choose_views(seen: Survey, size: str, larger: int = 0) -> Views:
    """Choose the input and the augmentation by what a data set is like.

    Args:
        seen: the data set.
        size: 'small' or 'medium'.
        larger: by so many steps the input is larger than its objects ask for.

    Returns:
        Views: without zoom, see :func:`zooms`.
    """
    scale, keep_ratio, why = _shape(seen, size, larger)
    flips, why_flips = _flips(seen)
    colours = not seen.one_instrument and not seen.coloured
    why_colours = f'mean brightness differs by {seen.light:.0f} grey levels between images'
    if seen.coloured:
        why_colours = f'colour tells {", ".join(seen.coloured[:3])}'
    what = 'one instrument and light' if seen.one_instrument else 'photographs of varying light'
    return Views(
        scale,
        keep_ratio,
        (1.0, 1.0, 0.0),
        flips,
        colours,
        {'input': why, 'flips': why_flips, 'colours': why_colours, 'zoom and shift': what},
    )


def _shape(seen: Survey, size: str, larger: int) -> tuple[tuple[int, int], bool, str]:
    least, most, wanted = _AREAS[size]
    aspects = seen.widths / seen.heights
    middle = min(max(seen.aspect, 1 / 12), 12.0)
    area = float(least)
    while True:
        height = max(math.sqrt(area / middle), _LEAST, _LEAST / middle)
        scale = (_rounded(middle * height), _rounded(height))
        off = np.abs(np.log(aspects * scale[1] / scale[0])) > math.log(_STRETCH)
        keep_ratio = bool(off.mean() > _STRETCHED)
        # A resize that keeps aspects asks for a long and a short side, whichever way they lie.
        both = keep_ratio and bool((np.log(aspects) * math.log(scale[0] / scale[1]) < 0).any())
        if both:
            scale = (max(scale),) * 2
        found = float(np.quantile(seen.sides(*scale, keep_ratio), _SMALL))
        enough = found >= wanted or (area >= most and found >= _TINY)
        if area >= _HUGE or (enough and not larger):
            break
        larger -= enough
        area = min(area * _LARGER, _HUGE)
    told = (
        f'95 % of the objects have a side (square root of the area) of {found:.0f} px or more in '
        f'it; the image in the middle has a width/height of {seen.aspect:.2f}'
    )
    if area > most:
        told += '; so large an input wants a GPU, or images that are cut into tiles'
    if keep_ratio:
        told += f'; {off.mean():.0%} of the images have another, so all keep theirs, within grey'
        told += ', in a square, since some stand and others lie' * both
    return scale, keep_ratio, told


def _rounded(side: float) -> int:
    return round(side / _STEP) * _STEP


def _flips(seen: Survey) -> tuple[tuple[str, ...], str]:
    mirrored = not seen.read
    said = f'{", ".join(seen.read[:3])} would be another thing in the mirror' if seen.read else ''
    if seen.lies_anyhow:
        why = 'objects lie everywhere and either way, as seen from above'
        if mirrored:
            return ('horizontal', 'vertical', 'diagonal'), why
        return ('diagonal',), f'{why}; {said}'
    upright = 'nothing shows that objects lie upside down'
    return (('horizontal',), upright) if mirrored else ((), f'{said}; {upright}')


def train_pipeline(views: Views, scope: str, as_stored: bool) -> list[dict[str, Any]]:
    """The transforms of a training image, as a config of mmdet or MMYOLO has them."""
    steps = [*_load(as_stored), dict(type='LoadAnnotations', with_bbox=True), *_fit(views, scope)]
    low, high, shift = views.zoom
    if (low, high, shift) != (1.0, 1.0, 0.0):
        steps.append(
            dict(
                type=_named('RandomAffine', scope),
                max_rotate_degree=0.0,
                max_shear_degree=0.0,
                max_translate_ratio=shift,
                scaling_ratio_range=(low, high),
                border_val=_GREY,
            )
        )
    if len(views.flips) == 1:
        steps.append(dict(type=_named('RandomFlip', scope), prob=0.5, direction=views.flips[0]))
    elif views.flips:
        each = dict(prob=[0.25] * len(views.flips), direction=list(views.flips))
        steps.append(dict(type=_named('RandomFlip', scope), **each))
    if views.colours:
        steps.append(dict(type=_named('PhotoMetricDistortion', scope)))
    keys: dict[str, Any] = {}
    if scope == 'mmyolo':  # its own keys lack what mmdet's heads of teachers read
        keys = dict(meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape'))
    return [*steps, dict(type=_named('PackDetInputs', scope), **keys)]


def test_pipeline(views: Views, scope: str, as_stored: bool) -> list[dict[str, Any]]:
    """The transforms of a test image."""
    meta = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')
    annotations = dict(type='LoadAnnotations', with_bbox=True)
    if scope == 'mmyolo':
        annotations['_scope_'] = 'mmdet'
    pack = dict(type=_named('PackDetInputs', scope), meta_keys=meta)
    return [*_load(as_stored), *_fit(views, scope), annotations, pack]


def _load(as_stored: bool) -> list[dict[str, Any]]:
    colour = dict(color_type='color_ignore_orientation') if as_stored else {}
    return [dict(type='LoadImageFromFile', **colour)]


def _fit(views: Views, scope: str) -> list[dict[str, Any]]:
    resize = dict(type=_named('Resize', scope), scale=views.scale, keep_ratio=views.keep_ratio)
    if not views.keep_ratio:
        return [resize]
    pad = dict(type=_named('Pad', scope), size=views.scale, pad_val=dict(img=_GREY))
    return [resize, pad]


def _named(transform: str, scope: str) -> str:
    return transform if scope == 'mmdet' else f'mmdet.{transform}'
