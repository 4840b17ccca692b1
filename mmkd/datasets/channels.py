"""How many channels an image has on its way from the file into the model, and how many bits."""

import inspect
import os
from collections.abc import Iterable, Mapping, Sequence
from logging import WARNING
from typing import Any

import torch
from torch import Tensor, nn

from mmkd.checkpoints.preprocessing import Preprocessing
from mmkd.config.read_config import read_config
from mmkd.errors import ImageError

_FOLDED = {12: 3, 27: 3, 48: 3}  # a stem that folds 2 x 2, 3 x 3 or 4 x 4 pixels into channels
_CHANGE_CHANNELS = ('Albu', 'RandomGrayscale')
_LARGEST = 100  # in standard deviations: no image is that far from the mean of its kind
_BEYOND_8_BITS = 1000  # whatever augmentation does
_told: list[bool] = []


def input_channels(model: nn.Module) -> int:
    """How many channels a built detector's images have, as its first convolution tells."""
    stem = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
    if stem is None:
        return 3
    count = stem.in_channels
    # YOLOX folds 2 x 2 pixels into channels.
    if any(type(m).__name__ == 'Focus' and stem in m.modules() for m in model.modules()):
        count //= 4
    return _FOLDED.get(count, count)


def check_channels(where: str, pipeline: Any, config: Mapping[str, Any]) -> None:
    """Check that a pipeline loads images with the channels that preprocessor and model take.

    Only what is certain is refused: with transforms, preprocessors or backbones of the user's own,
    or images that are loaded unchanged, the first batch decides.

    Args:
        where: the loader's key, for messages.
        pipeline: of a data set.
        config: of the run; its ``model`` is a detector or a pair.

    Raises:
        ValueError: they differ.
    """
    model, preprocessor = student_of(config)
    if not isinstance(model, Mapping):
        return
    scope = config.get('default_scope')
    count = _loaded(pipeline, scope)
    if count is None or not is_known('model', preprocessor, model.get('_scope_', scope)):
        return
    settings = preprocessor or {}
    mean: Any = settings.get('mean')
    backbone: Any = model.get('backbone')
    swaps = [key for key in ('bgr_to_rgb', 'rgb_to_bgr') if settings.get(key)]
    takes = _taken(backbone, model.get('_scope_', scope))
    if count == 1 and isinstance(mean, list | tuple) and len(mean) == 3:
        fault = 'data_preprocessor.mean has 3 values'
        remedy = 'Give mean and std one value'
    elif count == 1 and swaps:
        fault, remedy = f'data_preprocessor.{swaps[0]} needs 3', f'Set {swaps[0]}=False'
    elif takes not in (None, count):
        fault = f'model.backbone ({backbone["type"]}) takes {takes}'
        remedy = f'Build the backbone with in_channels={count} (MMYOLO: input_channels)'
    else:
        return
    gives = 'color' if count == 1 else 'grayscale'
    raise ValueError(
        f'{where}: images must be loaded with the channels that the model takes, but '
        f'LoadImageFromFile gives {count} and {fault}. {remedy}, or load with '
        f"color_type='{gives}'."
    )


def check_batch(images: Iterable[Tensor], samples: Any, preprocessor: Any) -> None:
    """Check the images (C, H, W) of a batch before they are normalised.

    An image whose values are far beyond the normalisation is told in the log, once.

    Raises:
        ImageError: one has other channels than the preprocessor, or the first of the batch.
    """
    own = Preprocessing.of(preprocessor) or Preprocessing()
    swaps = own.bgr_to_rgb
    wanted = 3 if swaps or (own.mean is not None and len(own.mean) == 3) else None
    for image, sample in zip(images, samples or (), strict=False):
        path = getattr(sample, 'img_path', None)
        found = min(len(image), 3) if swaps else len(image)  # a swap takes an alpha channel off
        wanted = wanted or found
        if image.dim() == 3 and found != wanted:
            raise ImageError(
                'each image must have the channels of data_preprocessor and of the other images, '
                f'{wanted}, but "{path}" has {len(image)}. Load all '
                "alike in LoadImageFromFile, with color_type='color' or 'grayscale'; 'unchanged' "
                'leaves them as they are in the files.'
            )
        if image.dtype == torch.uint8 or own.mean is None or own.std is None or _told:
            continue
        largest = float(image[..., ::8, ::8].float().max())  # of some pixels, to be quick
        if largest > _BEYOND_8_BITS:
            deviations = (largest - float(own.mean.max())) / float(own.std.min())
            if deviations > _LARGEST:
                _told.append(True)
                _tell(
                    f'"{path}" has values of {largest:.0f}, which data_preprocessor.mean and std '
                    f'turn into {deviations:.0f}: they are those of other images, of 8 bits '
                    'perhaps. Give the mean and std of these.'
                )


def _tell(text: str) -> None:
    from mmengine.logging import print_log

    print_log(text, 'current', WARNING)


def student_of(config: Mapping[str, Any]) -> tuple[Any, Any]:
    """The student's model config and the preprocessor that makes its batches, as they are given."""
    model, preprocessor = config.get('model'), None
    while isinstance(model, Mapping):
        preprocessor = preprocessor or model.get('data_preprocessor')
        if 'architecture' not in model:
            break
        model = model['architecture']
        if isinstance(model, str) and os.path.isfile(model):
            model = read_config(model, 'architecture').get('model')
    return model, preprocessor


def _loaded(pipeline: Any, scope: str | None) -> int | None:
    """With how many channels a pipeline ends; None if that is not certain."""
    count = None
    for transform in pipeline if isinstance(pipeline, Sequence) else ():
        if not (isinstance(transform, Mapping) and is_known('transform', transform, scope)):
            return None
        kind = str(transform['type']).split('.')[-1]
        if kind in _CHANGE_CHANNELS:
            return None
        if kind == 'LoadImageFromFile' and transform.get('imdecode_backend') != 'tifffile':
            color_type = str(transform.get('color_type', 'color'))
            count = {'color': 3, 'grayscale': 1}.get(color_type.split('_')[0])
    return count


def _taken(backbone: Any, scope: str | None) -> int | None:
    """With how many channels a backbone is built; None if that is not certain."""
    if backbone is None or not is_known('model', backbone, scope):
        return None
    kind = class_of('model', backbone, scope)
    for name in ('in_channels', 'input_channels'):
        parameters = [
            vars(owner)['__init__'] for owner in kind.__mro__ if '__init__' in vars(owner)
        ]
        defaults = [inspect.signature(init).parameters.get(name) for init in parameters]
        found = next((d.default for d in defaults if d is not None), None)
        found = backbone.get(name, found)
        if isinstance(found, int):
            return found
    return 3


def is_known(registry: str, config: Any, scope: str | None) -> bool:
    """Whether what a config builds belongs to the packages whose ways are known."""
    if config is None:
        return True
    if not isinstance(config, Mapping):
        return False
    kind = class_of(registry, config, scope)
    return getattr(kind, '__module__', '').split('.')[0] in ('mmcv', 'mmdet', 'mmengine', 'mmyolo')


def class_of(registry: str, config: Mapping[str, Any], scope: str | None) -> Any:
    """The class that a config's ``type`` names in 'model' or 'transform'; None if there is none."""
    from mmengine.registry import MODELS, TRANSFORMS

    kind, scope = config.get('type'), config.get('_scope_', scope)
    if not isinstance(scope, str | None):
        return None
    root = {'model': MODELS, 'transform': TRANSFORMS}[registry]
    with root.switch_scope_and_registry(scope) as found:
        return found.get(kind) if isinstance(kind, str) else kind
