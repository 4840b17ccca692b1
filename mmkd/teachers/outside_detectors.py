"""Detectors of other programs: a Python function, an ONNX file."""

import importlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from mmengine.utils import get_object_from_string
from numpy.typing import NDArray

from mmkd.checkpoints.fetch import sha256_of
from mmkd.config.names import first_of
from mmkd.teachers.class_names import class_names
from mmkd.teachers.detected import are_scores, check_scores, upright
from mmkd.teachers.function_digest import function_digest
from mmkd.teachers.onnx_description import Description

Image = NDArray[Any]  # (H, W, 3), uint8, BGR as cv2.imread gives it


class Found(NamedTuple):
    """What is detected in an image.

    Args:
        boxes (np.ndarray): (n, 4), float32: x1, y1, x2, y2 in pixels of the image.
        scores (np.ndarray): (n,), float32, from 0 to 1.
        labels (np.ndarray): (n,), int64, places among the detector's classes.
        distribution (np.ndarray): (n, K), float32, the score of each class; None where the
            detector tells no more than the surest.
    """

    boxes: NDArray[Any]
    scores: NDArray[Any]
    labels: NDArray[Any]
    distribution: NDArray[Any] | None = None


class FunctionDetector:
    """A function ``images -> boxes, scores, labels``.

    It is given a list of images (H, W, 3), uint8 in BGR order, as ``cv2.imread`` gives them, and
    returns three lists with an entry for each image: boxes (n, 4) in its pixels, x1, y1, x2, y2;
    scores from 0 to 1, (n,) or (n, K) for all classes; labels (n,), places among the classes or
    their names. Lists, arrays and tensors of any precision will do.

    Args:
        function: the function, or its dotted name.
        classes: names of its K classes, in the order of its labels
            (:func:`mmkd.teachers.class_names.class_names`).
        softmax: whether the scores of all classes exclude each other. Defaults to False.

    Raises:
        TypeError, ValueError: it is no function, or there are no classes.
    """

    sees_batch = True  # it may pad its images to one size

    def __init__(
        self, function: Callable[..., Any] | str, classes: Sequence[str], softmax: bool = False
    ) -> None:
        found = get_object_from_string(function) if isinstance(function, str) else function
        if not callable(found):
            raise TypeError(
                'a function that detects must be callable, or the dotted name of what is, but got '
                f'{function!r}{_why_not(function)}. Name it as package.module.function, in a '
                'folder that PYTHONPATH names.'
            )
        self.function: Any = found
        self.classes, self.softmax = class_names(classes), softmax
        kind = found if hasattr(found, '__qualname__') else getattr(found, 'func', type(found))
        self.name = f'{getattr(kind, "__module__", "")}.{getattr(kind, "__qualname__", "function")}'
        self.settings: dict[str, Any] = {'function': self.name}
        if softmax:
            self.settings['softmax'] = True
        self._digest = ''

    @property
    def digest(self) -> str:
        """Of what the function is, or of the weights that it was given."""
        self._digest = self._digest or function_digest(self.function)
        return self._digest

    @digest.setter
    def digest(self, value: str) -> None:
        self._digest = value

    def __call__(self, images: Sequence[Image]) -> list[Found]:
        """Detect in each of the images.

        Raises:
            ValueError: the function returns something else than it must.
        """
        returned = self.function(list(images))
        if not isinstance(returned, tuple | list) or len(returned) != 3:
            raise ValueError(
                f'{self.name} must return boxes, scores and labels, but returned '
                f'{type(returned).__name__}. Return three lists, with an entry for each image.'
            )
        counts = [len(part) for part in returned]
        if counts != [len(images)] * 3:
            raise ValueError(
                f'{self.name} must return boxes, scores and labels for each of {len(images)} '
                f'images, but returned {counts[0]}, {counts[1]} and {counts[2]}.'
            )
        return [self._checked(*found) for found in zip(*returned, strict=True)]

    def _checked(self, boxes: Any, scores: Any, labels: Any) -> Found:
        try:
            box, score = (_array(part).astype(np.float32) for part in (boxes, scores))
            label = _array(labels)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f'{self.name} must return boxes, scores and labels of an image as lists, arrays or '
                f'tensors of numbers, but {type(error).__name__} came of them: {error}. Correct it.'
            ) from None
        count, known = score.shape[0] if score.ndim else -1, len(self.classes)
        if label.ndim == 1 and len(label) and all(isinstance(one, str) for one in label):
            label = np.array([self._place(str(name)) for name in label], dtype=np.int64)
        box = box.reshape(-1, 4) if not box.size else box
        named, label = label, _whole(label)
        shaped = (
            box.shape == (count, 4)
            and label.shape == (count,)
            and score.shape in ((count,), (count, known))
        )
        valid = shaped and are_scores(score) and bool(np.isfinite(box).all())
        valid = valid and bool(upright(box).all() and (label == named).all())
        if not valid or (count and not (label.min() >= 0 and label.max() < known)):
            raise ValueError(
                f'{self.name} must return boxes (n, 4) of finite numbers, x1 <= x2 and y1 <= y2, '
                f'scores from 0 to 1, (n,) or (n, {known}), and whole labels from 0 to '
                f'{known - 1}, '
                f'but of an image returned {box.shape} {first_of(_odd(box), 2)}, {score.shape} '
                f'from {score.min(initial=1):.3g} to {score.max(initial=0):.3g}, and '
                f'{named.shape} {first_of(named[:9].tolist())}. Correct it.'
            )
        score = score.clip(0, 1)
        if score.ndim == 1:
            return Found(box, score, label)
        return Found(box, score[np.arange(count), label], label, score)

    def _place(self, name: str) -> int:
        if name not in self.classes:
            raise ValueError(
                f'{self.name} must return labels among its classes ({first_of(self.classes)}), '
                f'but returned "{name}". Add it to classes.'
            )
        return self.classes.index(name)


def _why_not(name: Any) -> str:
    """What an import says of the module of a dotted name."""
    if not isinstance(name, str):
        return ''
    try:
        importlib.import_module(name.rpartition('.')[0] or name)
    except ImportError as error:
        return f' ({type(error).__name__}: {error})'
    return ''


def _whole(labels: NDArray[Any]) -> NDArray[Any]:
    """Labels as places; what is no number is none."""
    if labels.dtype.kind not in 'biuf':
        return np.full(labels.shape, -1)
    return np.nan_to_num(labels, nan=-1, posinf=-1, neginf=-1).astype(np.int64)


def _odd(boxes: NDArray[Any]) -> list[Any]:
    """The boxes that are none, else all."""
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        return boxes.tolist()
    odd = ~(np.isfinite(boxes).all(1) & upright(boxes))
    return boxes[odd if odd.any() else slice(None)].tolist()


def _read(description: str | os.PathLike[str]) -> Any:
    try:
        return json.loads(Path(description).read_bytes())
    except (OSError, ValueError) as error:
        raise ValueError(
            f'the description of an ONNX file must be a file in JSON, but "{description}" cannot '
            f'be read ({error}). Correct the path, or write it by docs/any_teacher.md.'
        ) from None


def _array(value: Any) -> NDArray[Any]:
    if isinstance(value, list | tuple) and any(hasattr(one, 'detach') for one in value):
        value = [_array(one) for one in value]
    if hasattr(value, 'detach'):
        tensor = value.detach().cpu()
        value = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
    return np.asarray(value)


class OnnxDetector:
    """A detector in an ONNX file: one that ``mmkd export`` wrote, or another with a description.

    Args:
        path: of the file.
        description: what its input and outputs are
            (:class:`mmkd.teachers.onnx_description.Description`), or a JSON file with it. Defaults
            to None, what the file says itself.
        providers: of onnxruntime. Defaults to None, the CPU.

    Raises:
        FileNotFoundError, ModuleNotFoundError, ValueError: it cannot be opened, or does not say
            what its input and outputs are.
    """

    sees_batch = False  # it is shown one image at a time

    def __init__(
        self,
        path: str | Path,
        description: Mapping[str, Any] | str | Path | None = None,
        providers: Sequence[Any] | None = None,
    ) -> None:
        self.path = Path(path)
        self._own: Any = None
        self.settings: dict[str, Any] = {}
        if description is None:
            from mmkd_onnx import ModelFileError, load

            try:
                self._own = load(self.path, providers=providers)
            except ModelFileError as error:
                raise ValueError(
                    f'an ONNX file must say what its input and outputs are, as those of mmkd '
                    f'export do, or come with a description, but: {error} Or describe it '
                    '(docs/any_teacher.md).'
                ) from error
            self.classes: tuple[str, ...] = tuple(self._own.classes)
        else:
            told = description
            if isinstance(told, str | os.PathLike):
                told = _read(told)
            self._described = Description.of(told)
            self.classes = self._described.classes
            self._described.open(self.path, providers)
            self.settings = {'description': self._described.told()}
        #: Whether the scores of all classes are known to exclude each other.
        self.softmax = bool(
            self._own.metadata.told.get('softmax') if self._own else self._described.softmax
        )
        self.name, self.digest = str(path), sha256_of(self.path)
        beside = Path(f'{path}.data')  # where PyTorch's exporter may put the weights
        if beside.is_file():
            self.settings['data'] = sha256_of(beside)

    def __call__(self, images: Sequence[Image]) -> list[Found]:
        """Detect in each of the images."""
        if self._own is None:
            return [Found(*self._described.detect(image)) for image in images]
        return [self._detected(image) for image in images]

    def _detected(self, image: Image) -> Found:
        prepared = self._own.prepare(image)
        outputs = [output[0] for output in self._own.raw(prepared.data['inputs'][None])]
        if len(outputs) > 1:
            check_scores(outputs[1], f'"{self.path}"', ' Or export the detector again.')
        placed = prepared.data['placed']
        rows, boxes, scores, labels = self._own.chosen_rows(outputs, placed)
        distribution = None if rows is None else outputs[1][rows].astype(np.float32)
        found = placed.back(boxes)
        kept = np.isfinite(found).all(1) & np.isfinite(scores)
        distribution = None if distribution is None else distribution[kept]
        sure, own = scores.astype(np.float32)[kept], labels.astype(np.int64)[kept]
        return Found(found[kept], sure, own, distribution)
