"""Reading and writing detectors' checkpoints: strict in, ordinary mmdet files out."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from mmkd.checkpoints.class_layers import other_classes
from mmkd.checkpoints.loading import Fit, Loaded, keep, warn
from mmkd.checkpoints.reader import find_checkpoint, read_anything
from mmkd.checkpoints.state_keys import (
    averaged_twins,
    is_of_quantizer,
    normalisation,
    student_state_dict,
    with_state_dict,
)
from mmkd.checkpoints.ultralytics import (
    is_yolov5_file,
    load_yolov5_state_dict,
    read_yolov5_file,
)
from mmkd.checkpoints.weight_meaning import differences
from mmkd.config.names import first_of
from mmkd.fileio.atomic_writes import write_atomic

_NAMES = {
    'teacher_ckpt': 'the teacher',
    '--teacher-ckpt': 'the teacher',
    'student_ckpt': 'the student',
}


def read_checkpoint(path: str, what: str = 'checkpoint') -> dict[str, Any]:
    """Read an mmdet checkpoint: a dict with at least ``state_dict`` and ``meta``.

    Args:
        path: a file or a URL.
        what: how an error calls it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file does not hold a detector's weights.
    """
    checkpoint = with_state_dict(read_anything(path, what))
    weights = checkpoint['state_dict'] if isinstance(checkpoint, Mapping) else None
    if not isinstance(weights, Mapping) or not any(map(torch.is_tensor, weights.values())):
        raise ValueError(
            f'{what} must hold a "state_dict" of tensors, but "{path}" holds '
            f'{type(checkpoint).__name__ if weights is None else "no tensors"}. '
            'Give a checkpoint that mmdet wrote.'
        )
    meta = checkpoint.get('meta')
    return {**checkpoint, 'meta': meta if isinstance(meta, Mapping) else {}}


def read_weights(
    model: nn.Module, path: str, what: str
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The weights for a plain detector in a checkpoint, and the checkpoint's ``meta``.

    Args:
        model: the detector, for which an Ultralytics YOLOv5 checkpoint is converted.
        path: as for :func:`load_detector`.
        what: the config key, for messages.

    Raises:
        FileNotFoundError, ValueError: see :func:`read_checkpoint`; YOLOv5 weights that do not fit.
    """
    file = find_checkpoint(path, what)
    if is_yolov5_file(file):
        found = read_yolov5_file(file)
        meta = {'dataset_meta': {'classes': found.class_names}}
        return load_yolov5_state_dict(found, model), meta
    checkpoint = read_checkpoint(str(file), what)
    return student_state_dict(checkpoint['state_dict']), checkpoint['meta']


def load_detector(
    model: nn.Module, path: str, what: str, strict: bool = True, classes: Sequence[str] = ()
) -> Loaded:
    """Load the weights of a plain detector, by default every key or none, and only where they fit.

    An Ultralytics YOLOv5 checkpoint is converted; it must fit MMYOLO's YOLOv5 wholly, whatever
    ``strict`` says. Of other state in the file, mean and std of the images are compared with the
    model's, and averaged twins of mmdet 2.x are left out.

    Args:
        model: the detector, which keeps what is returned as its ``loaded_weights``.
        path: a plain mmdet checkpoint, an exported student or a distillation checkpoint (then the
            student in it), as a file or a URL.
        what: the config key or the option, for messages: ``teacher_ckpt`` or ``student_ckpt``.
        strict: whether a missing, unexpected or mis-shaped key is an error, and a clear difference
            between the config in the file and the model
            (:mod:`mmkd.checkpoints.weight_meaning`). Otherwise such keys are counted in the log and
            left out, and such differences are warnings.
        classes: of the model, for messages. Defaults to none.

    Returns:
        What was loaded.

    Raises:
        FileNotFoundError, ValueError: see :func:`read_checkpoint`; keys that do not fit; weights
            that mean something else in this model.
    """
    weights, meta = read_weights(model, path, what)
    own = model.state_dict()
    # What training with quantize has found is no weight: mmkd.quantization takes it.
    weights = {k: v for k, v in weights.items() if k in own or not is_of_quantizer(k)}
    of_images = normalisation(weights, own)
    twins = [key for key in averaged_twins(weights) if key not in own]
    kept = {name: weights[key] for key, name in of_images.items()}
    weights = {k: v for k, v in weights.items() if k not in of_images and k not in twins}
    fit = Fit.of(own, weights)
    faults = fit.faults()
    relaxed = f' To load {{}}, set {what}_strict=False.' if what.endswith('_ckpt') else ''
    if faults and (strict or not fit.fit):
        of_classes = other_classes(model, fit, meta, what, path, classes)
        if of_classes is not None:
            raise ValueError(of_classes)
        same = not fit.missing and not fit.unexpected
        remedy = (
            'The architecture is the same: look at num_classes of its parts, and the priors.'
            + relaxed.format('what fits')
            if same and not any(key.startswith(('backbone.', 'neck.')) for key in fit.misshaped)
            else 'Is it the checkpoint of this config?' + relaxed.format('what fits')
        )
        raise ValueError(
            f'{what} must hold exactly the weights of the config ({len(own)} keys), but of '
            f'"{path}" {len(fit.fit)} fit. Keys that do not: {"; ".join(faults)}. {remedy}'
        )
    found, notes = differences(model, meta, kept)
    name = _NAMES.get(what, 'the model')
    clear = [difference for difference in found if difference.clear]
    if clear and strict:
        raise ValueError(
            f'{what} must hold weights that mean in {name} what they meant in training, but for '
            f'"{path}" {name} has {"; and ".join(map(str, clear))}. '
            f'{clear[0].change.format(model=name)}{relaxed.format("it all the same")}'
        )
    model.load_state_dict({key: weights[key] for key in fit.fit}, strict=False)
    loaded = fit.loaded(what, path, meta=meta, differences=found, strict=strict)
    keep(model, loaded)
    if of_images:
        notes += (f'left out as settings, not weights: {", ".join(of_images)}',)
    if twins:
        notes += (
            f"left out as twins that mmdet 2.x's EMA keeps: {first_of(twins, 3, counted=True)}",
        )
    print_log('. '.join([str(loaded), *faults, *notes]), 'current')
    warn(found, what, name)
    return loaded


def save_checkpoint(checkpoint: dict[str, Any], path: str | Path) -> None:
    """Write ``checkpoint`` so that ``path`` appears whole or not at all."""
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    write_atomic(path, buffer.getvalue())
