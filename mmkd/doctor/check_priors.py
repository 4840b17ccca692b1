"""The objects of the training images against the priors of the student's head."""

import contextlib
import io
import math
import pprint
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import DATASETS
from torch import Tensor

from mmkd.datasets.drawn_objects import DrawnObjects, draw_objects
from mmkd.doctor.report import Report, Section
from mmkd.geometry.fit_anchors import fit_anchors
from mmkd.heads.object_fit import (
    generator_settings,
    object_fit,
    overlap_needed,
    training_head,
)

#: Share of the objects that must have a prior that fits.
LEAST = 0.9

#: Fewer objects than these are not judged.
FEW = 30

#: Share of the objects that a transform may take away; a crop is meant to.
MOST_LOST, MOST_CROPPED = 0.05, 0.5

#: COCO's bounds of small and medium objects, here of the sides in input pixels.
_SIZES = (('small, up to 32 px', 0.0, 32.0), ('medium, up to 96 px', 32.0, 96.0))
_LARGE = ('large', 96.0, math.inf)

#: Classes that have a row of their own, those that fit least first.
_MOST_CLASSES = 20

COLUMNS = ('objects', 'count', 'fit', 'forced')


def check_priors(
    section: Section,
    model: Any,
    dataset: Any,
    classes: Sequence[str] | None = None,
    images: int = 64,
    seconds: float = 30.0,
) -> None:
    """Compare the objects behind the training pipeline with what a detector can be taught.

    Args:
        section: gets rows of objects, count, share with a prior that fits, and share that has none
            and is given to its nearest.
        model: the detector that is trained.
        dataset: its training set, as built.
        classes: their names.
        images: how many are drawn at most.
        seconds: after which no more are.
    """
    drawn = draw_objects(dataset, images, seconds=seconds)
    _compare(section, model, drawn, classes)
    _check_lost(section, drawn)


def _compare(
    section: Section, model: Any, drawn: DrawnObjects, classes: Sequence[str] | None
) -> None:
    if not len(drawn):
        section.notes.append('Left out: no object in the images that were drawn.')
        return
    fits, forced, rule = [], [], ''
    divisor = getattr(getattr(model, 'data_preprocessor', None), 'pad_size_divisor', 1) or 1
    for boxes, (height, width) in zip(drawn.boxes, drawn.sizes, strict=True):
        padded = (-(-height // divisor) * divisor, -(-width // divisor) * divisor)
        found = object_fit(model, boxes, padded)
        if isinstance(found, str):
            section.notes.append(f'Left out: {found}.')
            return
        fits.append(found.fits)
        forced.append(found.only_forced)
        rule = found.rule
    boxes, labels = torch.cat(drawn.boxes), torch.cat(drawn.labels)
    fit, only_forced = torch.cat(fits), torch.cat(forced)
    sides = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(1).sqrt()
    for name, which in _groups(sides, labels, fit, classes):
        if which.any():
            section.rows.append(
                [name, int(which.sum()), _share(fit, which), _share(only_forced, which)]
            )
    section.notes.append(f'Fits: {rule}. {len(drawn.boxes)} training images were drawn.')
    _judge(section, model, boxes, fit, sides, rule)


def told_of_priors(model: Any, cfg: Config) -> list[str]:
    """In a line what of a config's objects fits, and a line for each warning; it never fails.

    Args:
        model: the detector that is trained.
        cfg: with the ``train_dataloader``.
    """
    report = Report('')
    with report.section('Priors against objects', *COLUMNS) as section:
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools tells of its loading
            dataset: Any = DATASETS.build(cfg.train_dataloader.dataset)
        classes = getattr(dataset, 'metainfo', {}).get('classes')
        check_priors(section, model, dataset, classes, images=32, seconds=5.0)
    return told(section)


def told(section: Section) -> list[str]:
    """The section's line, where anything could be compared, and its warnings."""
    warnings = [f'{f.found} {f.change}' for f in section.findings if f.severity == 'warning']
    return [found for found in (line(section), *warnings) if found]


def line(section: Section) -> str:
    """The section in one line, for the start of a training; '' where nothing could be compared."""
    whole = next((row for row in section.rows if row[0] == 'all'), None)
    if whole is None:
        return ''
    return f'Priors: {whole[2]:.0%} of {whole[1]} objects have one that fits. {section.notes[-1]}'


def _groups(
    sides: Tensor, labels: Tensor, fit: Tensor, classes: Sequence[str] | None
) -> list[tuple[str, Tensor]]:
    groups = [('all', torch.ones_like(fit))]
    groups += [(name, (sides >= low) & (sides < high)) for name, low, high in (*_SIZES, _LARGE)]
    kinds = labels.unique().tolist()
    shares = {kind: _share(fit, labels == kind) for kind in kinds}
    for kind in sorted(kinds, key=shares.__getitem__)[:_MOST_CLASSES] if len(kinds) > 1 else []:
        name = classes[kind] if classes and kind < len(classes) else f'class {kind}'
        groups.append((name, labels == kind))
    return groups


def _share(what: Tensor, which: Tensor) -> float:
    return what[which].double().mean().item()


def _clearly_below(share: float, count: int, least: float) -> bool:
    """By more than chance in so few objects."""
    return count >= FEW and share + 2 * math.sqrt(share * (1 - share) / count) < least


def _judge(
    section: Section, model: Any, boxes: Tensor, fit: Tensor, sides: Tensor, rule: str
) -> None:
    share, count = fit.double().mean().item(), len(fit)
    head = training_head(model)
    strides = getattr(getattr(head, 'prior_generator', None), 'strides', None) or [0]
    finest = min(max(s) if isinstance(s, tuple) else s for s in strides)
    tiny = (sides < finest).double().mean().item()
    section.rows.append(
        [f'smaller than the finest stride, {finest}', int(count * tiny), None, None]
    )
    if not _clearly_below(share, count, LEAST):
        return
    section.warn(
        f'{share:.0%} of the objects have {rule}; the others teach boxes little or nothing.',
        _remedy(head, boxes, share, tiny, finest),
    )


def _remedy(head: Any, boxes: Tensor, share: float, tiny: float, finest: float) -> str:
    generator = getattr(head, 'prior_generator', None)
    settings = generator_settings(generator) if generator is not None else None
    small = (
        f' {tiny:.0%} are smaller than the finest stride: enlarge the images (Resize), or take a '
        f'finer level than stride {finest}.'
        if tiny > 1 - LEAST
        else ''
    )
    if settings is None:
        return small.strip() or (
            'Bring the images to another size (Resize), or regress_ranges and strides to the '
            'sizes of the objects.'
        )
    by_ratio = hasattr(head, 'prior_match_thr')
    limit = head.prior_match_thr if by_ratio else overlap_needed(head.assigner)[0]
    fitted = fit_anchors(boxes[:, 2:] - boxes[:, :2], settings, limit)
    if fitted.share <= share:
        return small.strip() or 'Enlarge the images (Resize), or take a head of other priors.'
    lines = ', '.join(
        f'{key}={pprint.pformat(value, width=10_000)}'
        for key, value in fitted.settings.items()
        if key != 'type'
    )
    return (
        f"Give teacher and student priors of these objects: dict(type='{fitted.settings['type']}', "
        f'{lines}) fits {fitted.share:.0%}.{small}'
    )


def _check_lost(section: Section, drawn: DrawnObjects) -> None:
    for name, lost in drawn.lost.items():
        before = drawn.before[name]
        if not lost:
            continue
        share, crops = lost / before, name in drawn.crops
        section.rows.append([f'lost by {name}', lost, None, None])
        if name in drawn.of_mosaics:
            continue  # a mosaic is larger than the image that is cut from it
        if _clearly_below(1 - share, before, 1 - (MOST_CROPPED if crops else MOST_LOST)):
            section.warn(
                f'{name} takes away {share:.0%} of the {before} objects that come to it.',
                'Weaken it, or lower the size from which it keeps a box (min_gt_bbox_wh, '
                'min_crop_size, min_area_ratio), unless that is meant.',
            )
