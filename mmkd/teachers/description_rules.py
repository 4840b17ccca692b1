"""Rules for what a description of an ONNX file says."""

import math
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np

from mmkd_onnx.metadata import MAX_SIDE


def check_description(told: Mapping[str, Any]) -> None:
    """Hold each field to its rule, and those that belong together to theirs.

    Args:
        told: by key.

    Raises:
        ValueError: one breaks its rule.
    """
    for key, value in told.items():
        rule, holds = _RULES[key]
        if not holds(value):
            raise _refused(key, rule, repr(value)[:80])
    if not told.get('labels'):
        return
    beside = (
        ('scores', bool(told.get('scores')), 'the name of an output, those of the labels'),
        ('objectness', not told.get('objectness'), 'false beside labels'),
        ('activation', told.get('activation') != 'softmax', 'none or sigmoid beside labels'),
    )
    for key, kept, rule in beside:
        if not kept:
            raise _refused(key, rule, repr(told.get(key, '')))


def check_against_file(told: Mapping[str, Any], session: Any, path: Path) -> None:
    """Hold a description against what a file says of its input and outputs.

    Args:
        told: all that the description says, by key.
        session: of onnxruntime, with the file.
        path: of the file, for messages.

    Raises:
        ValueError: they differ.
    """
    outputs = [output.name for output in session.get_outputs()]
    named = [told[key] for key in ('boxes', 'scores', 'labels') if told[key]]
    unknown = [name for name in named if name not in outputs]
    if unknown:
        raise ValueError(
            f'boxes, scores and labels of a description must name outputs of "{path}" '
            f'({", ".join(outputs)}), but it has no {", ".join(unknown)}.'
        )
    entry, *others = session.get_inputs()
    size, layout, dtype = (told[key] for key in ('size', 'layout', 'dtype'))
    sides = (3, *size) if layout == 'NCHW' else (*size, 3)
    wanted = sides if len(entry.shape) == 3 else (1, *sides)
    axes = entry.shape or wanted  # a file may leave out what it takes
    fits = len(axes) == len(wanted) and all(
        not isinstance(there, int) or there in (side, -1)
        for there, side in zip(axes, wanted, strict=True)
    )
    kind = {'float32': 'tensor(float)', 'uint8': 'tensor(uint8)'}[dtype]
    if others or not fits or entry.type != kind:
        raise ValueError(
            f'size, layout and dtype of a description must be those of the one input of '
            f'"{path}", {entry.name} {entry.shape} {entry.type}'
            f'{f" beside {len(others)} more" if others else ""}, but are {list(size)}, '
            f'{layout} and {dtype}, for {list(wanted)} {kind}. Correct them, or '
            'export the file with such an input.'
        )


def _refused(key: str, rule: str, received: str) -> ValueError:
    return ValueError(
        f'{key} of a description must be {rule}, but got {received}. Correct it '
        '(docs/any_teacher.md).'
    )


def _is_number(value: Any, least: float = -math.inf, most: float = math.inf) -> bool:
    real = isinstance(value, Real) and not isinstance(value, bool)
    return real and math.isfinite(value) and least <= value <= most


def _is_whole(value: Any, least: float = -math.inf) -> bool:
    return _is_number(value, least) and isinstance(value, Integral)


def _is_side(value: Any) -> bool:
    return _is_whole(value, 1) and value <= MAX_SIDE


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple | np.ndarray)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _per_channel(value: Any) -> bool:
    return _is_number(value) or (
        _is_list(value) and len(value) in (1, 3) and all(map(_is_number, value))
    )


def _choice(*choices: str) -> tuple[str, Callable[[Any], bool]]:
    return f'one of {", ".join(choices)}', lambda value: _is_text(value) and value in choices


#: By key what it must be, in words, and whether a value is that.
_RULES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    'classes': (
        'a list of names, in the order of scores or labels',
        lambda value: _is_list(value) and len(value) > 0 and all(map(_is_text, value)),
    ),
    'size': (
        f'the height and width of the input, from 1 to {MAX_SIDE} each',
        lambda value: _is_list(value) and len(value) == 2 and all(map(_is_side, value)),
    ),
    'boxes': ('the name of an output', lambda value: _is_text(value) and value != ''),
    'scores': ("the name of an output, or ''", _is_text),
    'labels': ("the name of an output, or ''", _is_text),
    'objectness': ('true or false', _is_flag),
    'resize': _choice('letterbox', 'stretch', 'keep_ratio'),
    'pad': ('a number from 0 to 255', lambda value: _is_number(value, 0, 255)),
    'channels': _choice('RGB', 'BGR'),
    'mean': ('a number, or one for each of three channels', _per_channel),
    'std': (
        'a number other than 0, or one for each of three channels',
        lambda value: _per_channel(value) and bool(np.all(np.asarray(value) != 0)),
    ),
    'layout': _choice('NCHW', 'NHWC'),
    'dtype': _choice('float32', 'uint8'),
    'box_form': _choice('xyxy', 'cxcywh', 'xywh'),
    'relative': ('true or false', _is_flag),
    'activation': _choice('none', 'sigmoid', 'softmax'),
    'background': _choice('none', 'first', 'last'),
    'first_label': ('a whole number', _is_whole),
    'score_thr': ('a number from 0 to 1', lambda value: _is_number(value, 0, 1)),
    'iou_thr': (
        'a number from 0 to 1, or null',
        lambda value: value is None or _is_number(value, 0, 1),
    ),
    'max_per_img': ('a whole number from 1 on', lambda value: _is_whole(value, 1)),
}
