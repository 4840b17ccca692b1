"""A detector of torchvision, by its name and a file with its weights."""

import importlib
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mmkd.checkpoints.fetch import sha256_of
from mmkd.checkpoints.reader import find_checkpoint, read_file
from mmkd.config.names import nearest
from mmkd.predict.load import find_device
from mmkd.teachers.outside_detectors import FunctionDetector

#: The detectors of torchvision whose scores do not exclude each other.
_OF_SIGMOIDS = ('retinanet', 'fcos')


def torchvision_detector(
    name: str, checkpoint: str, device: str | None = None, classes: Sequence[str] = ()
) -> FunctionDetector:
    """A detector of torchvision with the weights of a file.

    Args:
        name: of a function of ``torchvision.models.detection``.
        checkpoint: a file with its state dict.
        device: where it computes.
        classes: names of its labels from 1 on. Defaults to those of torchvision's own weights.

    Raises:
        ModuleNotFoundError: torchvision is not installed.
        ValueError: it has no such detector, or the weights do not fit.
    """
    try:
        zoo: Any = importlib.import_module('torchvision.models.detection')
        models: Any = importlib.import_module('torchvision.models')
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f'a detector must be a config, a checkpoint with its config in it, a YOLOv5 .pt, an '
            f'ONNX file, or the name of a detector of torchvision, but there is no file "{name}", '
            'and torchvision is not installed. Correct the path, or pip install torchvision.'
        ) from error
    known = models.list_models(module=zoo)
    if name not in known:
        raise ValueError(
            f'torchvision has no detector "{name}", and there is no such file. Nearest: '
            f'{", ".join(nearest(name, known, cutoff=0.3)) or ", ".join(known[:5])}.'
        )
    if not classes:
        told = models.get_model_weights(name)
        classes = list(next(iter(told)).meta['categories'])[1:]
    place = find_device(device)
    model = models.get_model(
        name, weights=None, weights_backbone=None, num_classes=len(classes) + 1
    )
    file = find_checkpoint(checkpoint, 'the detector')
    state = read_file(file, 'the detector')
    for key in ('model', 'state_dict'):  # as its own and others' training scripts save it
        state = state[key] if isinstance(state, Mapping) and key in state else state
    try:
        model.load_state_dict(state)
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f'"{checkpoint}" must hold the weights of torchvision\'s {name} of {len(classes)} '
            f'classes, but does not: {" ".join(str(error).split())[:300]}. Name its classes '
            '(--classes) if it has others.'
        ) from None
    softmax = not name.startswith(_OF_SIGMOIDS)
    made = FunctionDetector(partial(_look, model.to(place).eval(), place), classes, softmax)
    made.name, made.digest = name, sha256_of(file)
    made.settings = {'torchvision': name}
    return made


@torch.no_grad()
def _look(model: Any, place: torch.device, images: Sequence[NDArray[Any]]) -> Any:
    rgb = [np.ascontiguousarray(image[..., ::-1].transpose(2, 0, 1)) for image in images]
    found = model([torch.from_numpy(one).to(place).float() / 255 for one in rgb])
    # Label 0 is that of nothing, of which heads with sigmoids may be sure as well.
    kept = [one['labels'] > 0 for one in found]
    pairs = list(zip(found, kept, strict=True))
    return (
        [one['boxes'][some] for one, some in pairs],
        [one['scores'][some] for one, some in pairs],
        [one['labels'][some] - 1 for one, some in pairs],
    )
