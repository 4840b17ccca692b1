"""What weights rely on and do not hold: a file's own config against the model they go into."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mmkd.checkpoints.checkpoint_meta import Origin, origin
from mmkd.checkpoints.foreign import shown as text_of_file
from mmkd.checkpoints.preprocessing import Normalisation, Preprocessing
from mmkd.checkpoints.registered_parts import build_parts

#: By how much two numbers may differ: anchors are kept in float16 (2 ** -11), means in five digits.
TOLERANCE = 2e-3

#: The same for corners of anchors, in pixels: near 0 they are differences of larger numbers.
PIXELS = 0.02

#: Of the range of normalised values, how far a pixel may move before the weights see other images.
MOVED = 0.1

#: Attributes of layers, necks and heads by which the same weights give another output.
_SETTINGS = frozenset(
    (
        *('stride', 'padding', 'dilation', 'groups', 'padding_mode', 'kernel_size', 'ceil_mode'),
        *('eps', 'num_groups', 'negative_slope', 'mode', 'scale_factor', 'align_corners'),
        *('num_heads', 'window_size', 'shift_size', 'num_levels', 'num_points'),
        *('out_indices', 'out_feature_indices', 'start_level', 'end_level', 'backbone_end_level'),
        *('add_extra_convs', 'relu_before_extra_convs', 'upsample_cfg'),
        *('reg_max', 'num_base_priors', 'use_sigmoid_cls', 'norm_on_bbox', 'norm_by_strides'),
        *('bbox_norm_type', 'exp_on_reg', 'centerness_on_reg', 'with_objectness', 'anchor_type'),
        *('strides', 'featmap_strides', 'fpn_strides', 'reg_denoms', 'use_atss'),
        *('transform_method', 'point_strides', 'point_base_scale', 'gradient_mul'),
        *('spatial_scale', 'output_size', 'aligned', 'finest_scale'),
    )
)

#: What box coders keep beside the coding itself.
_NO_CODING = frozenset(('clip_border', 'add_ctr_clamp', 'ctr_clamp', 'use_box_type'))

_SAME_ACTIVATION = {'Swish': 'SiLU', 'HSwish': 'Hardswish', 'HSigmoid': 'Hardsigmoid'}


@dataclass(frozen=True)
class Difference:
    """Where a file and the model that its weights go into part.

    Args:
        what: the setting, as a config calls it.
        in_file: its value where the weights were trained.
        in_model: its value in the model.
        change: the remedy, in which ``{model}`` stands for the model.
        clear: whether the weights mean something else in this model.
    """

    what: str
    in_file: Any
    in_model: Any
    change: str
    clear: bool = True

    def __str__(self) -> str:
        theirs = text_of_file(self.in_file)
        return f'{self.what}={self.in_model}, but its checkpoint was trained with {theirs}'


def differences(
    model: nn.Module, meta: Mapping[str, Any], normalisation: Mapping[str, Tensor] | None = None
) -> tuple[tuple[Difference, ...], tuple[str, ...]]:
    """Compare what a file says of its weights with a model.

    Priors, coders, strides, layers and heads are compared as built, not as texts: the parts of
    the detector are built from the file's config, of registered types alone. What the file does
    not tell, or tells in a way that cannot be read without executing it, is not compared.

    Args:
        model: the detector that the weights go into.
        meta: the checkpoint's, see :func:`mmkd.checkpoints.checkpoint_meta.origin`.
        normalisation: ``mean`` and ``std`` where the file has them among its weights.

    Returns:
        The differences, the first of each kind, and notes on what could not be compared.
    """
    about = origin(meta)
    found = [*_of_images(model, about, normalisation or {}), *_of_anchors(model, about)]
    notes = list(about.notes)
    if about.model is not None:
        parts, unbuilt = build_parts(about.model, model, about.scope)
        notes += unbuilt
        for path, part in parts.items():
            found += _of_part(part, model.get_submodule(path), path)
    return tuple(found), tuple(map(text_of_file, notes))


def _of_images(model: nn.Module, about: Origin, kept: Mapping[str, Tensor]) -> Iterator[Difference]:
    preprocessor: Any = getattr(model, 'data_preprocessor', None)
    preprocessor = getattr(
        preprocessor, 'data_preprocessor', preprocessor
    )  # MultiBranchDataPreprocessor
    preprocessing = Preprocessing.of(preprocessor)
    if preprocessing is None:
        return
    own = preprocessing.normalisation
    theirs = about.normalisation
    if set(kept) >= {'mean', 'std'}:
        mean, std = (tuple(kept[key].flatten().tolist()) for key in ('mean', 'std'))
        if mean and std and 0.0 not in std and all(map(math.isfinite, (*mean, *std))):
            theirs = Normalisation(mean, std, theirs.bgr_to_rgb if theirs else None)
    if theirs is None:
        return
    moved = _moved(theirs, own)
    for key in ('mean', 'std'):
        in_file, in_model = getattr(theirs, key), getattr(own, key)
        if not _close(_spread(in_file, in_model), _spread(in_model, in_file)):
            value = shown(in_file)
            yield Difference(
                key,
                value,
                shown(in_model),
                f'Set {key}={value} in data_preprocessor of {{model}}, or give {{model}} the '
                'config that it was trained with.',
                moved > MOVED,
            )
    if theirs.bgr_to_rgb is not None and theirs.bgr_to_rgb != own.bgr_to_rgb:
        yield Difference(
            'bgr_to_rgb',
            theirs.bgr_to_rgb,
            own.bgr_to_rgb,
            f'Set bgr_to_rgb={theirs.bgr_to_rgb} in data_preprocessor of {{model}}, or give '
            '{model} the config that it was trained with.',
        )


def shown(values: Sequence[float]) -> list[float]:
    """Numbers of float32 without the digits that it does not hold."""
    return [float(f'{value:.6g}') for value in values]


def _spread(values: Sequence[float], like: Sequence[float]) -> Sequence[float]:
    return tuple(values) * len(like) if len(values) == 1 else tuple(values)


def _moved(theirs: Normalisation, own: Normalisation) -> float:
    """How far a pixel's normalised value moves at most, in parts of the range of values."""
    length = max(map(len, (theirs.mean, theirs.std, own.mean, own.std)))
    columns = [_spread(v, range(length)) for v in (theirs.mean, theirs.std, own.mean, own.std)]
    if any(len(column) != length for column in columns):
        return math.inf
    far = [
        abs((pixel - mean_a) / std_a - (pixel - mean_b) / std_b) / (255 / min(std_a, std_b))
        for mean_a, std_a, mean_b, std_b in zip(*columns, strict=True)
        for pixel in (0, 255)
    ]
    return max(far)


def _of_anchors(model: nn.Module, about: Origin) -> Iterator[Difference]:
    """What Ultralytics' files tell of their anchors, in pixels."""
    priors: Any = getattr(getattr(model, 'bbox_head', None), 'prior_generator', None)
    base = getattr(priors, 'base_anchors', None)
    if base is None:
        return
    sizes = [(level[:, 2:] - level[:, :2]).tolist() for level in base]
    strides = [stride[0] if isinstance(stride, tuple) else stride for stride in priors.strides]
    for what, in_file, in_model in (
        ('anchors', about.anchors, sizes),
        ('strides', about.strides, strides),
    ):
        if in_file and not _close(in_file, in_model, PIXELS):
            yield Difference(
                f'bbox_head.prior_generator.{what}',
                _short(in_file),
                _short(in_model),
                'Give {model} these priors, or take the checkpoint of this config.',
            )


def _of_part(theirs: nn.Module, own: nn.Module, path: str) -> Iterator[Difference]:
    """The first difference of each setting in a backbone, neck or head, with the number of all."""
    known, values = dict(_settings(theirs)), dict(_settings(own))
    by_setting: dict[str, list[tuple[str, str]]] = {}
    for key in values:
        least = PIXELS if 'anchors' in key[-1] else 0.0
        if key in known and not _close(known[key], values[key], least):
            by_setting.setdefault(key[-1], []).append(key)
    for keys in by_setting.values():
        (where, setting), more = keys[0], len(keys) - 1
        name = '.'.join(part for part in (path, where, setting) if part)
        name += f' (and {more} more)' if more else ''
        yield Difference(
            name,
            _short(known[keys[0]]),
            _short(values[keys[0]]),
            'Give {model} this setting, or take the checkpoint of this config.',
        )


def _settings(module: nn.Module) -> Iterator[tuple[tuple[str, str], Any]]:
    """By (path, setting): what decides the output beside the weights."""
    for path, part in module.named_modules():
        kind = type(part)
        name = _SAME_ACTIVATION.get(kind.__name__, kind.__name__)
        if kind.__module__ in ('torch.nn.modules.activation', 'mmcv.cnn.bricks.activation') or (
            name in _SAME_ACTIVATION.values()
        ):
            yield (path, 'act_cfg'), name
        for key in sorted(_SETTINGS.intersection(dir(part))):
            try:
                value = getattr(part, key)
            except Exception:  # a property that needs what this module lacks
                continue
            if _plain(value):
                yield (path, key), value
        for key, value in vars(part).items():
            if key in ('prior_generator', 'anchor_generator', 'point_generator'):
                yield from (((path, f'{key}.{k}'), v) for k, v in _priors(value))
            elif key == 'bbox_coder' and value is not None:
                yield (path, f'{key}.type'), type(value).__name__
                coding = {k: v for k, v in vars(value).items() if k not in _NO_CODING}
                yield from (((path, f'{key}.{k}'), v) for k, v in coding.items() if _plain(v))


def _priors(generator: Any) -> Iterator[tuple[str, Any]]:
    for key in ('strides', 'num_base_priors', 'base_anchors', 'offset'):
        value = getattr(generator, key, None)
        if key == 'base_anchors' and value is not None:
            value = [torch.as_tensor(level).tolist() for level in value]
        if value is not None:
            yield key, value


def _plain(value: Any) -> bool:
    """Whether a value is of numbers and strings only."""
    if isinstance(value, list | tuple):
        return all(map(_plain, value))
    if isinstance(value, Mapping):
        return all(map(_plain, value.values()))
    return value is None or isinstance(value, bool | int | float | str)


def _close(a: Any, b: Any, least: float = 0.0) -> bool:
    """Whether two settings are the same, through a float16 or float32 and as lists or tuples.

    Args:
        a, b: numbers, strings, lists or dicts of them.
        least: by how much numbers may differ near 0.
    """
    if isinstance(a, bool | str | None) or isinstance(b, bool | str | None):
        return type(a) is type(b) and a == b
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(_close(a[key], b[key], least) for key in a)
    if isinstance(a, int | float) and isinstance(b, int | float):
        return a == b or math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=least)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(_close(x, y, least) for x, y in zip(a, b, strict=True))
    if isinstance(a, list | tuple) and isinstance(b, int | float):
        a, b = b, a
    if isinstance(a, int | float) and isinstance(b, list | tuple):  # 2 and (2, 2)
        return bool(b) and all(_close(a, item, least) for item in b)
    return False


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 90 else f'{text[:70]}...{text[-15:]}'
