"""Detectors of all kinds, opened to label images."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from mmengine.config import Config
from mmengine.hub import get_config
from numpy.typing import NDArray

from mmkd.checkpoints.fetch import sha256_of
from mmkd.checkpoints.reader import find_checkpoint
from mmkd.checkpoints.ultralytics import is_yolov5_file, read_yolov5_file
from mmkd.config.names import first_of
from mmkd.config.read_config import read_config
from mmkd.datasets.measured_sets import measured_sets
from mmkd.errors import ImageError
from mmkd.heads import describe_head, predicting_head
from mmkd.label.distributions import detect_with_distributions
from mmkd.label.torchvision_detector import torchvision_detector
from mmkd.predict.detector import groups
from mmkd.predict.load import load
from mmkd.teachers.class_names import class_names
from mmkd.teachers.outside_detectors import Found, FunctionDetector, OnnxDetector

#: A path, or (H, W, 3) in BGR.
Image = str | NDArray[Any]


#: What is found in an image, and its pixels, in which the boxes lie.
Looked = tuple[Found, NDArray[Any]]


class Labels(Protocol):
    """Detects in images.

    Args:
        classes: names, in the order of its labels.
        name: what it is called in messages.
        digest: of its weights, or of what else it is.
        settings: what decides its results besides: text or numbers by name.
        softmax: whether its scores of all classes are known to exclude each other.
        sees_batch: whether what it finds in an image may depend on those beside it.
    """

    classes: tuple[str, ...]
    name: str
    digest: str
    settings: Mapping[str, Any]
    softmax: bool
    sees_batch: bool

    def __call__(self, images: Sequence[Image]) -> list[Looked]:
        """What is found in each, and its pixels."""


class PipelineDetector:
    """A detector of mmdet or MMYOLO, through its own test pipeline.

    Args:
        checkpoint: as of :func:`mmkd.load`; or an Ultralytics YOLOv5 ``.pt``.
        config: as of :func:`mmkd.load`.
        device: as of :func:`mmkd.load`.
        soft: whether the score of each class is wanted. Defaults to False.
    """

    sees_batch = False  # of a batch all images have one prepared size

    def __init__(
        self, checkpoint: str, config: Any = None, device: str | None = None, soft: bool = False
    ) -> None:
        file = find_checkpoint(checkpoint, 'the detector')
        if config is None and is_yolov5_file(file):
            config = yolov5_config(file)
        if config is not None and not isinstance(config, Config):
            config = read_config(config)
        told = None if config is None else _digest_of(config)
        self.settings: Mapping[str, Any] = {'config': told}
        self.detector = load(checkpoint, config, device)
        self.name, self.digest, self.soft = checkpoint, sha256_of(Path(file)), soft
        _, head = predicting_head(getattr(self.detector, 'model', None))
        known = None if head is None else describe_head(head)
        self.softmax = known is not None and known.sigmoid is False
        count = known.classes if known is not None else None
        self.classes = _each_named(self.detector.classes, count or 0)

    def __call__(self, images: Sequence[Image]) -> list[Looked]:
        """What is found in each image."""
        prepared = [self.detector.prepare(image) for image in images]
        pixels = [one.pixels for one in prepared]
        if self.soft:
            found = detect_with_distributions(self.detector, prepared)
        else:
            found = [
                Found(one.boxes, one.scores, one.labels)
                for group in groups(prepared, len(prepared), lambda one: one)
                for one in self.detector.run(group)
            ]
        return list(zip(found, pixels, strict=True))


class PixelDetector:
    """A detector of another program, which is given pixels.

    Args:
        detector: sees images (H, W, 3), uint8 in BGR order.
    """

    def __init__(self, detector: Any) -> None:
        self.detector, self.classes = detector, detector.classes
        self.name, self.digest = detector.name, detector.digest
        self.settings: Mapping[str, Any] = detector.settings
        self.softmax, self.sees_batch = detector.softmax, detector.sees_batch

    def __call__(self, images: Sequence[Image]) -> list[Looked]:
        """What is found in each image."""
        pixels = [pixels_of(image) for image in images]
        return list(zip(self.detector(pixels), pixels, strict=True))


def _each_named(names: Sequence[str], count: int) -> tuple[str, ...]:
    """Names of at least so many classes, made up where neither weights nor data tell them."""
    more = (f'class {label}' for label in range(len(names), count))
    found = (*names, *more)
    return class_names(found) if found else ()


def _digest_of(config: Config) -> str:
    """Of what a config says of detecting: the model, and how an image is prepared."""
    keys = ('model', 'default_scope', 'test_pipeline')
    prepared = [
        {key: one.get(key) for key in ('pipeline', 'batch_shapes_cfg', 'metainfo')}
        for one in measured_sets(config)[:1]
    ]
    told = json.dumps([{key: config.get(key) for key in keys}, prepared], default=str)
    return hashlib.sha256(told.encode()).hexdigest()


def pixels_of(image: Image) -> NDArray[Any]:
    """An image (H, W, 3) in BGR.

    Raises:
        ImageError: it cannot be read.
    """
    if not isinstance(image, str):
        return image
    found = cv2.imread(image, cv2.IMREAD_COLOR)
    if found is None:
        raise ImageError.of(image, ValueError('OpenCV cannot read it'))
    return np.asarray(found)


def open_detector(
    detector: str | Callable[..., Any],
    checkpoint: str | None = None,
    device: str | None = None,
    soft: bool = False,
    classes: Sequence[str] = (),
    description: Any = None,
    softmax: bool = False,
) -> Labels:
    """Open a detector, whatever it is.

    Args:
        detector: a config of mmdet or MMYOLO; ``student.pth`` or another checkpoint with its config
            in it; an Ultralytics YOLOv5 ``.pt``; an ONNX file; the name of a detector of
            torchvision; or a function ``images -> boxes, scores, labels``.
        checkpoint: of a config, or of a detector of torchvision.
        device: where it computes. Defaults to None: a GPU if there is one.
        soft: whether the score of each class is wanted.
        classes: names, of a function's or torchvision's labels; of others in the place of theirs.
        description: of an ONNX file of another program.
        softmax: whether a function's scores of all classes exclude each other.

    Raises:
        FileNotFoundError, ModuleNotFoundError, ValueError: it cannot be opened, or what is told of
            it is none of its kind.
    """
    if softmax and isinstance(detector, str):
        raise ValueError(
            f'softmax is told of a function, but the detector is "{detector}", of which it is '
            'known. Leave it out.'
        )
    if not isinstance(detector, str):
        _check_undescribed(description, 'a function')
        return PixelDetector(FunctionDetector(detector, classes, softmax))
    name = detector.lower()
    if name.endswith('.onnx'):
        return _renamed(PixelDetector(OnnxDetector(detector, description)), classes)
    _check_undescribed(description, f'"{detector}"')
    if name.endswith(('.py', '.yaml', '.yml', '.json')) or '::' in detector:
        if checkpoint is None:
            raise ValueError(
                f'a config needs its checkpoint, but "{detector}" came alone. Name it after it.'
            )
        return _renamed(PipelineDetector(checkpoint, detector, device, soft), classes)
    if checkpoint is None or Path(detector).exists():
        return _renamed(PipelineDetector(detector, checkpoint, device, soft), classes)
    return PixelDetector(torchvision_detector(detector, checkpoint, device, classes))


def _check_undescribed(description: Any, what: str) -> None:
    if description is not None:
        raise ValueError(
            f'a description is told of an ONNX file, but the detector is {what}. Leave it out.'
        )


def _renamed(detector: Any, classes: Sequence[str]) -> Labels:
    """A detector that knows how many classes it has, by the names that it is given, if any."""
    if classes and len(classes) != len(detector.classes):
        raise ValueError(
            f'classes must name each of the {len(detector.classes)} classes of "{detector.name}" '
            f'({first_of(detector.classes)}), but got {len(classes)} ({first_of(classes)}). '
            'Correct them, or leave them out.'
        )
    detector.classes = class_names(classes) if classes else detector.classes
    return detector


def yolov5_config(file: str | Path) -> Any:
    """A config of MMYOLO for what an Ultralytics YOLOv5 file holds."""
    held = read_yolov5_file(file)
    config = get_config('mmyolo::yolov5/yolov5_s-v61_syncbn_8xb16-300e_coco.py')
    depth, width = (held.yaml.get(f'{what}_multiple') for what in ('depth', 'width'))
    model = config.model
    for part in (model.backbone, model.neck):
        part.update(deepen_factor=depth, widen_factor=width)
    model.bbox_head.head_module.update(widen_factor=width, num_classes=held.num_classes)
    model.bbox_head.prior_generator.base_sizes = [list(level) for level in held.anchors]
    dataset = config.test_dataloader.dataset
    dataset.metainfo = dict(classes=held.class_names)
    return config
