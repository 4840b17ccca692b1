"""Reading and writing detectors' checkpoints: strict in, ordinary mmdet files out."""

import io
from collections.abc import Mapping
from pathlib import Path

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from mmkd.reader import find_checkpoint, read_anything
from mmkd.whole import write_whole
from mmkd.yolov5 import is_yolov5_file, load_yolov5_state_dict

#: Where MMRazor's algorithms keep the student inside a distillation checkpoint.
STUDENT_PREFIX = 'architecture.'


def student_state_dict(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The plain detector inside ``state_dict``.

    A distillation checkpoint holds the student under ``architecture.`` beside connectors; a plain
    one is returned as it is, but for the ``module.`` that some wrappers leave in front of each key.
    """
    if state_dict and all(key.startswith('module.') for key in state_dict):
        state_dict = {key[len('module.') :]: value for key, value in state_dict.items()}
    student = {
        key[len(STUDENT_PREFIX) :]: value
        for key, value in state_dict.items()
        if key.startswith(STUDENT_PREFIX)
    }
    return student or dict(state_dict)


def read_checkpoint(path: str, what: str = 'checkpoint') -> dict:
    """Read an mmdet checkpoint: a dict with at least ``state_dict``.

    Args:
        path: a file or a URL.
        what: how an error calls it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file does not hold a detector's weights.
    """
    checkpoint = read_anything(path, what)
    if isinstance(checkpoint, Mapping) and 'state_dict' not in checkpoint:
        checkpoint = {'state_dict': checkpoint}
    weights = checkpoint['state_dict'] if isinstance(checkpoint, Mapping) else None
    if not isinstance(weights, Mapping) or not any(map(torch.is_tensor, weights.values())):
        raise ValueError(
            f'{what} must hold a "state_dict" of tensors, but "{path}" holds '
            f'{type(checkpoint).__name__ if weights is None else "no tensors"}. '
            'Give a checkpoint that mmdet wrote.'
        )
    return dict(checkpoint)


def read_weights(model: nn.Module, path: str, what: str) -> tuple[dict[str, Tensor], dict]:
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
        return load_yolov5_state_dict(file, model), {}
    checkpoint = read_checkpoint(str(file), what)
    return student_state_dict(checkpoint['state_dict']), checkpoint.get('meta', {})


def load_detector(model: nn.Module, path: str, what: str, strict: bool = True) -> dict:
    """Load the weights of a plain detector, by default every key or none.

    An Ultralytics YOLOv5 checkpoint is converted; it must fit MMYOLO's YOLOv5 wholly, whatever
    ``strict`` says.

    Args:
        model: the detector.
        path: a plain mmdet checkpoint, an exported student or a distillation checkpoint (then the
            student in it), as a file or a URL.
        what: the config key, for messages: ``teacher_ckpt`` or ``student_ckpt``.
        strict: whether a missing, unexpected or mis-shaped key is an error. Otherwise such keys
            are counted in the log and left out.

    Returns:
        The checkpoint's ``meta``.

    Raises:
        FileNotFoundError, ValueError: see :func:`read_checkpoint`; keys that do not fit.
    """
    weights, meta = read_weights(model, path, what)
    own = model.state_dict()
    # BN counters came with PyTorch 0.4.1 and are of no use to a detector: older files lack them.
    missing = [k for k in own if k not in weights and not k.endswith('num_batches_tracked')]
    unexpected = [k for k in weights if k not in own]
    misshaped = [
        f'{k} (file {tuple(weights[k].shape)}, model {tuple(own[k].shape)})'
        for k in own
        if k in weights and weights[k].shape != own[k].shape
    ]
    faults = [
        f'{len(keys)} {name}: {_first(keys)}'
        for name, keys in (
            ('missing', missing),
            ('unexpected', unexpected),
            ('of another shape', misshaped),
        )
        if keys
    ]
    fit = sum(k in own and weights[k].shape == own[k].shape for k in weights)
    if faults and (strict or fit == 0):
        same = not missing and not unexpected
        remedy = (
            'The architecture is the same: look at the class count (num_classes) and the priors.'
            if same
            else f'Is it the checkpoint of this config? To load what fits, set {what}_strict=False.'
        )
        raise ValueError(
            f'{what} must hold exactly the weights of the config ({len(own)} keys), but of '
            f'"{path}" {fit} fit. Keys that do not: {"; ".join(faults)}. {remedy}'
        )
    model.load_state_dict(
        {k: v for k, v in weights.items() if k in own and v.shape == own[k].shape}, strict=False
    )
    message = f'{what}: {fit} of {len(own)} keys loaded from {path}'
    print_log('. '.join([message, *faults]), logger='current')
    return meta


def _first(keys: list[str], count: int = 3) -> str:
    rest = len(keys) - count
    return ', '.join(keys[:count]) + (f' and {rest} more' if rest > 0 else '')


def save_whole(checkpoint: dict, path: str | Path) -> None:
    """Write ``checkpoint`` so that ``path`` appears whole or not at all."""
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    write_whole(path, buffer.getvalue())
