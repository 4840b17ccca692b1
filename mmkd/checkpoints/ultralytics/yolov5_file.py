"""Reads the ``.pt`` files of Ultralytics YOLOv5 (networks v6.0 to 7.0) without running any code."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmkd.checkpoints.ultralytics.errors import CheckpointError
from mmkd.checkpoints.ultralytics.inert_objects import Bag, TensorRef, describe
from mmkd.checkpoints.ultralytics.inert_pickle import read_pickle
from mmkd.checkpoints.ultralytics.layer import LAYER_CLASSES, NETWORK_CLASSES, Layer, layer_tree
from mmkd.checkpoints.ultralytics.opcodes import names_in
from mmkd.checkpoints.ultralytics.torch_archive import TorchArchive


@dataclass(frozen=True, eq=False)
class YOLOv5File:
    """What an Ultralytics YOLOv5 file holds.

    Args:
        path: The file.
        source: ``'ema'`` where the file has averaged weights, else ``'model'``.
        network_class: ``models.yolo.Model`` (v6.0, v6.1) or ``models.yolo.DetectionModel``.
        network: The tree of modules.
        state_dict: The weights under Ultralytics' own keys; floating ones as float32.
        class_names: Class names in label order.
        anchors: Per level the anchors' (width, height) in input pixels.
        strides: Per level the stride in pixels.
        yaml: The description of the network that Ultralytics built it from.
        date: When it was saved, as the file says it, or ``''``.
    """

    path: Path
    source: str
    network_class: str
    network: Layer
    state_dict: dict[str, Tensor]
    class_names: tuple[str, ...]
    anchors: tuple[tuple[tuple[float, float], ...], ...]
    strides: tuple[int, ...]
    yaml: dict[str, Any]
    date: str

    @property
    def num_classes(self) -> int:
        """How many classes the network has."""
        return len(self.class_names)


def is_yolov5_file(path: str | Path) -> bool:
    """Whether a file is meant for :func:`read_yolov5_file`: its pickle names YOLOv5's classes.

    A plain state dict, another program's file and a file that is no checkpoint at all are not.
    Nothing in the file is trusted or run; a damaged or hostile YOLOv5 file may well answer True,
    and is then refused by the reader.
    """
    try:
        with TorchArchive(path) as archive:
            data = archive.pickle()
    except CheckpointError:
        # So that the reader, not torch, says what is wrong with a file from before torch 1.6.
        return Path(path).is_file() and _is_legacy_yolov5(Path(path))
    return b'models.yolo' in data and any(name in NETWORK_CLASSES for name in names_in(data))


def _is_legacy_yolov5(path: Path) -> bool:
    with path.open('rb') as file:
        head = file.read(1 << 16)
    named = (name.rpartition('.') for name in NETWORK_CLASSES)
    return any(f'c{module}\n{name}\n'.encode() in head for module, _, name in named)


def read_yolov5_file(path: str | Path) -> YOLOv5File:
    """Reads an Ultralytics YOLOv5 file; only tensors, plain containers and known layers.

    Args:
        path: A ``.pt`` file of YOLOv5 v6.0 to 7.0.

    Raises:
        CheckpointError: The file is no such file, is damaged, or asks for anything else.
    """
    with TorchArchive(path) as archive:
        try:
            return _read(archive)
        except CheckpointError as error:
            if str(error).startswith(str(archive.path)):
                raise
            raise CheckpointError(f'{archive.path}: {error}') from error


def _read(archive: TorchArchive) -> YOLOv5File:
    content = read_pickle(archive.pickle(), LAYER_CLASSES, part=_network_in)
    source = _source(content)
    bag = _network_in(content)
    if not isinstance(content, dict) or (source == 'model' and not isinstance(bag, Bag | None)):
        raise CheckpointError(
            "a YOLOv5 file must be a dict with the network under 'model', got "
            f'{describe(content)}; load a plain state dict with mmengine'
        )
    if not isinstance(bag, Bag) or bag.name not in NETWORK_CLASSES:
        got = bag.name if isinstance(bag, Bag) else describe(bag)
        raise CheckpointError(
            f'{source!r} must be one of {", ".join(NETWORK_CLASSES)}, got {got}; only detection '
            'networks of YOLOv5 are read'
        )
    network = layer_tree(bag)
    detect = next((layer for layer in network.walk() if layer.kind == 'Detect'), None)
    if detect is None:
        raise CheckpointError('a YOLOv5 network must end in a Detect layer, got none')
    strides = _strides(archive, network.attrs)
    date = content.get('date')
    yaml = network.attrs.get('yaml')
    return YOLOv5File(
        path=archive.path,
        source=source,
        network_class=bag.name,
        network=network,
        state_dict=_state_dict(archive, network),
        class_names=_class_names(network.attrs.get('names'), detect.attrs.get('nc')),
        anchors=_anchors(archive, detect, strides),
        strides=strides,
        yaml=yaml if isinstance(yaml, dict) else {},
        date=date if isinstance(date, str) else '',
    )


def _source(content: Any) -> str:
    # Ultralytics trains with averaged weights, evaluates them, and keeps them under 'ema' until it
    # strips the file: those are the weights that its figures are about.
    return 'ema' if isinstance(content, dict) and content.get('ema') is not None else 'model'


def _network_in(content: Any) -> Any:
    return content.get(_source(content)) if isinstance(content, dict) else content


def _state_dict(archive: TorchArchive, network: Layer) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    for layer in network.walk():
        for name, ref in layer.tensors.items():
            key = f'{layer.path}.{name}' if layer.path else name
            tensor = archive.tensor(ref)
            if not tensor.is_floating_point():
                state[key] = tensor.clone()
                continue
            # float16 is how the file is kept; a copy either way, so that nothing shares storage.
            state[key] = tensor.to(torch.float32, copy=True).contiguous()
            if not state[key].isfinite().all():
                raise CheckpointError(
                    f'{key} must be finite, got NaN or infinity; the training that wrote the file '
                    'diverged'
                )
    return state


def _class_names(names: Any, num_classes: Any) -> tuple[str, ...]:
    # A list up to v6.1, then a dict from label to name.
    if isinstance(names, dict):
        names = [names.get(label) for label in range(len(names))]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise CheckpointError(f'class names must be text by label, got {describe(names)}')
    if type(num_classes) is not int or num_classes != len(names):
        raise CheckpointError(
            f'a class name is needed for each of {describe(num_classes)} classes, got {len(names)}'
        )
    return tuple(names)


def _strides(archive: TorchArchive, attrs: dict[str, Any]) -> tuple[int, ...]:
    ref = attrs.get('stride')
    values = archive.tensor(ref).flatten().tolist() if isinstance(ref, TensorRef) else []
    if not values or not all(0 < value < 4096 and value == int(value) for value in values):
        raise CheckpointError(f'strides must be whole pixels, got {values or describe(ref)}')
    return tuple(int(value) for value in values)


def _anchors(
    archive: TorchArchive, detect: Layer, strides: tuple[int, ...]
) -> tuple[tuple[tuple[float, float], ...], ...]:
    ref = detect.tensors.get('anchors')
    anchors = archive.tensor(ref).float() if ref is not None else torch.empty(0)
    if anchors.ndim != 3 or len(anchors) != len(strides) or anchors.shape[-1] != 2:
        raise CheckpointError(
            f'anchors must be of shape ({len(strides)} levels, anchors, 2), got '
            f'{tuple(anchors.shape)}'
        )
    # The file counts in cells of the level, mmdet in pixels.
    pixels = (anchors * torch.tensor(strides)[:, None, None]).tolist()
    return tuple(tuple((w, h) for w, h in level) for level in pixels)
