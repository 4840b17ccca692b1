"""How an exported file gets its input: a test pipeline in the few terms that a file states."""

from collections.abc import Mapping, Sequence
from math import ceil, lcm
from typing import Any

from mmkd.checkpoints.preprocessing import Preprocessing
from mmkd.datasets.measured_sets import measured_sets

#: Transforms of a test pipeline that do nothing to the pixels.
_IDLE = ('LoadAnnotations', 'PackDetInputs', 'YOLOv5LoadAnnotations')


def input_rule(
    config: Mapping[str, Any],
    preprocessing: Preprocessing,
    size: tuple[int, int] | None = None,
    kind: str = 'uint8',
) -> dict[str, Any]:
    """How an image becomes the input of an exported detector.

    Args:
        config: the detector's, with its test pipeline.
        preprocessing: what its ``data_preprocessor`` does.
        size: (H, W) of the input. Defaults to None: what the test pipeline makes of images.
        kind: of the input, 'uint8' or 'float32'.

    Returns:
        dict: what ``mmkd_onnx.preparation.place`` follows.

    Raises:
        ValueError: the pipeline does what a file cannot state, or has no size.
    """
    steps, fixed, padding = [], None, None
    clip: dict[str, Any] | None = dict(square=False, divisor=1)
    divisor = preprocessing.pad_size_divisor
    for transform in measured_pipeline(config):
        name = str(transform.get('type')).split('.')[-1]
        if name == 'LoadImageFromFile':
            _check_loader(transform)
        elif name == 'Pad':
            padding = _pad_value(transform)
            fixed = transform.get('size') or fixed
            divisor = lcm(divisor, transform.get('size_divisor') or 1)
            clip = _clip_after(transform)
        elif name in ('Resize', 'YOLOv5KeepRatioResize', 'LetterResize'):
            steps.append(_step(name, transform, size))
            clip = None if name == 'LetterResize' else dict(square=False, divisor=1)
        elif name == 'RandomCenterCropPad' and transform.get('test_mode'):
            steps.append(_in_the_middle(transform, size))
            clip = None
        elif name not in _IDLE:
            raise ValueError(
                'a test pipeline that is exported must resize and pad, by Resize, '
                'YOLOv5KeepRatioResize, LetterResize, Pad and RandomCenterCropPad in test_mode, '
                'but this one has '
                f'{name}. Give a config whose test_dataloader does without.'
            )
    height, width = size or _size_of(steps, fixed)
    if size is None:
        height, width = (ceil(side / divisor) * divisor for side in (height, width))
    elif height % divisor or width % divisor:
        near = [max(round(side / divisor), 1) * divisor for side in (height, width)]
        raise ValueError(
            f'--size must be of multiples of {divisor}, to which the detector pads, but got '
            f'{height} {width}. Take {near[0]} {near[1]}.'
        )
    for step in steps:
        if step['step'] == 'letterbox':
            step['size'] = [height, width]
        elif step['step'] == 'resize':
            step['within'] = [height, width]
    if padding is None:
        padding = _raw(preprocessing, kind)
    return dict(
        size=[height, width],
        steps=steps,
        padding=padding,
        clip=clip,
        channels='BGR',
        input=kind,
        layout='NCHW',
    )


def measured_pipeline(config: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The pipeline that a test and a validation measure with.

    Raises:
        ValueError: there is none.
    """
    for dataset in measured_sets(config):
        return list(dataset['pipeline'])
    if config.get('test_pipeline'):
        return config['test_pipeline']
    raise ValueError(
        'a detector that is exported must have a test pipeline, by which images are prepared, but '
        'its config has neither test_dataloader nor test_pipeline. Give the whole config.'
    )


def _check_loader(transform: Mapping[str, Any]) -> None:
    kind = transform.get('color_type', 'color')
    if kind != 'color':
        raise ValueError(
            "a test pipeline that is exported must load images with color_type='color', but has "
            f'{kind!r}. The input of a file has three channels, blue, green and red.'
        )


def _clip_after(pad: Mapping[str, Any]) -> dict[str, Any] | None:
    """What boxes are clipped to after a Pad, which a detector takes for a part of the image."""
    if pad.get('size') is not None:
        return None
    return dict(square=bool(pad.get('pad_to_square')), divisor=pad.get('size_divisor') or 1)


def _pad_value(transform: Mapping[str, Any]) -> list[float]:
    value = transform.get('pad_val', 0)
    value = value.get('img', 0) if isinstance(value, Mapping) else value
    return list(value) if isinstance(value, list | tuple) else [value] * 3


def _step(name: str, transform: Mapping[str, Any], size: tuple[int, int] | None) -> dict[str, Any]:
    scale = transform.get('scale')
    if isinstance(scale, int):
        scale = (scale, scale)
    if size is not None:
        scale = size[::-1]
    if not isinstance(scale, list | tuple) or len(scale) != 2:
        raise ValueError(
            f'the {name} of a test pipeline that is exported must have a scale (width, height), '
            f'but has {transform.get("scale_factor", scale)}. Give --size H W.'
        )
    scale = [int(side) for side in scale]
    how = transform.get('interpolation', 'bilinear')
    if name == 'YOLOv5KeepRatioResize':
        return dict(step='keep_ratio', scale=scale)
    if name == 'LetterResize':
        if transform.get('use_mini_pad') or transform.get('half_pad_param'):
            raise ValueError(
                'the LetterResize of a test pipeline that is exported must fill its scale, but has '
                'use_mini_pad or half_pad_param. A file has one size: leave them out.'
            )
        return dict(
            step='letterbox',
            size=scale[::-1],
            allow_scale_up=bool(transform.get('allow_scale_up', True)),
            stretch=bool(transform.get('stretch_only', False)),
            interpolation=how,
            value=_pad_value(transform),
        )
    kept = bool(transform.get('keep_ratio', False))
    return dict(step='resize', scale=scale, keep_ratio=kept, interpolation=how)


def _in_the_middle(transform: Mapping[str, Any], size: tuple[int, int] | None) -> dict[str, Any]:
    """As CenterNet is tested: the image as it is in the middle of a larger one.

    A file has one size, so an image that is larger than that is made smaller.
    """
    if size is None:
        raise ValueError(
            'an exported file has one input size, but the RandomCenterCropPad of the test pipeline '
            'takes that of each image. Give --size H W, as large as most images.'
        )
    value = list(transform.get('mean') or [0, 0, 0])
    return dict(
        step='letterbox',
        size=list(size),
        allow_scale_up=False,
        stretch=False,
        interpolation='bilinear',
        value=value[::-1] if transform.get('to_rgb') else value,
    )


def _size_of(steps: Sequence[Mapping[str, Any]], fixed: Any) -> tuple[int, int]:
    """(H, W) into which each image goes: where the ratio is kept, whichever way it lies."""
    if fixed is not None:  # of Pad, (width, height)
        return (fixed, fixed) if isinstance(fixed, int) else (fixed[1], fixed[0])
    if not steps:
        raise ValueError(
            'an exported file has one input size, but the test pipeline resizes nothing. '
            'Give --size H W.'
        )
    last = steps[-1]
    if last['step'] == 'letterbox':
        return last['size'][0], last['size'][1]
    width, height = last['scale']
    if last['step'] == 'keep_ratio' or last['keep_ratio']:
        return max(width, height), max(width, height)
    return height, width


def _raw(preprocessing: Preprocessing, kind: str) -> list[float]:
    """The pixel, in BGR order, that normalisation makes the detector's own padding."""
    value = [float(preprocessing.pad_value)] * 3
    if preprocessing.mean is not None and preprocessing.std is not None:
        means, stds = preprocessing.mean.flatten().tolist(), preprocessing.std.flatten().tolist()
        value = [v * std + mean for v, mean, std in zip(value, means, stds, strict=True)]
    if preprocessing.bgr_to_rgb:
        value = value[::-1]
    return [min(max(round(v), 0), 255) for v in value] if kind == 'uint8' else value
