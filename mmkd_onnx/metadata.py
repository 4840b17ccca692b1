"""What the exporter wrote into a file of what it is, checked before it is followed."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmkd_onnx.preparation import INTERPOLATIONS

MAX_SIDE = 1 << 14  # of an image, in pixels
_LARGE = 1e9  # no threshold and no pixel value is


@dataclass(frozen=True)
class Metadata:
    """What the exporter wrote into a file, checked.

    Args:
        classes: the names, in the order of the labels.
        preprocessing: as :func:`mmkd_onnx.preparation.place` takes it.
        thresholds: as :func:`mmkd_onnx.detections.choose` takes them.
        told: all of it, with ``version`` and ``weights_sha256``.
        datasets: where annotation files lie that list the classes and, maybe, the images:
            ``data_root``, ``ann_file`` and ``data_prefix``.
    """

    classes: tuple[str, ...]
    preprocessing: Mapping[str, Any]
    thresholds: Mapping[str, Any]
    told: Mapping[str, Any]
    datasets: Sequence[Mapping[str, Any]] = ()


def read_metadata(text: str) -> Metadata:
    """The metadata in a JSON text.

    Raises:
        ValueError: they cannot be read, or no exporter would write them; the message says which.
    """
    try:
        told = json.loads(text)
        classes, datasets = tuple(told['classes']), told.get('datasets', [])
        rule, thresholds = told['preprocessing'], told['thresholds']
        sound = (
            all(isinstance(name, str) for name in classes)
            and _is_rule(rule)
            and _are_thresholds(thresholds)
            and all(map(_is_dataset, datasets))
        )
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(f'has metadata that cannot be read ({type(error).__name__})') from None
    if not sound:
        raise ValueError(f'has metadata out of all bounds ({text[:200]})')
    return Metadata(classes, rule, thresholds, told, datasets)


def _is_size(value: Any) -> bool:
    return len(value) == 2 and all(type(n) is int and 0 < n <= MAX_SIDE for n in value)


def _is_number(value: Any) -> bool:
    return isinstance(value, float | int) and abs(value) < _LARGE


def _is_color(value: Any) -> bool:
    return len(value) == 3 and all(map(_is_number, value))


def _is_rule(rule: Any) -> bool:
    return (
        _is_size(rule['size'])
        and all(_is_step(step, rule['size']) for step in rule['steps'])
        and _is_color(rule['padding'])
        and rule['input'] in ('uint8', 'float32')
        and (rule.get('clip') is None or _is_clip(rule['clip']))
    )


def _is_clip(clip: Any) -> bool:
    return _are(bool, clip['square']) and _is_size([clip['divisor']] * 2)


def _is_step(step: Any, size: Any) -> bool:
    kind = step['step']
    if kind == 'keep_ratio':
        return _is_size(step['scale'])
    if kind == 'letterbox':
        flags: Sequence[Any] = (step['allow_scale_up'], step['stretch'])
        sized = step['size'] == size and _is_color(step['value'])
    elif kind == 'resize':
        flags = (step['keep_ratio'],)
        sized = _is_size(step['scale']) and _is_size(step['within'])
    else:
        return False
    return sized and _are(bool, *flags) and step['interpolation'] in INTERPOLATIONS


def _are_thresholds(rules: Any) -> bool:
    iou, before, levels = rules['iou'], rules['before_nms'], rules['levels']
    return (
        all(map(_is_number, (rules['score'], rules['min_side'], 0 if iou is None else iou)))
        and _are(int, rules['max_per_image'], 0 if before is None else before, *levels)
        and min(rules['max_per_image'], 1 if before is None else before, *levels) >= 0
        and _are(bool, rules['multi_label'], rules['class_agnostic'], rules['clip_first'])
        and _are(bool, *(rules.get(key, False) for key in ('whole_rows', 'by_level', 'voting')))
        and all(type(rules.get(key, 1)) is int for key in ('instances', 'fast_nms', 'border'))
        and min(rules.get(key, 1) for key in ('instances', 'fast_nms')) > 0
        and 0 <= rules.get('border', 0) < MAX_SIDE
        and all(_is_number(rules.get(key, 0)) for key in ('factor', 'after'))
        and rules.get('offset', 0) in (0, 1)
        and ('peaks' not in rules or _are_peaks(rules['peaks'], sum(levels)))
    )


def _are_peaks(peaks: Any, rows: int) -> bool:
    kernel, size = peaks['kernel'], peaks['size']
    odd = type(kernel) is int and 0 < kernel <= 2 * max(size) + 1 and kernel % 2 == 1
    return odd and len(peaks) == 2 and _is_size(size) and size[0] * size[1] == rows


def _is_dataset(dataset: Any) -> bool:
    prefix = dataset['data_prefix']
    return _are(str, dataset['data_root'], dataset['ann_file'], *prefix, *prefix.values())


def _are(kind: type, *values: Any) -> bool:
    return all(isinstance(value, kind) for value in values)
