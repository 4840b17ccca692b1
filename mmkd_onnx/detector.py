"""An exported detector, run by onnxruntime."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any, TypeAlias, overload

import cv2
import numpy as np
from numpy.typing import NDArray

from mmkd_onnx.detections import Detections, choose_rows
from mmkd_onnx.image_file import read_image
from mmkd_onnx.metadata import Metadata
from mmkd_onnx.model_file import ModelFileError, read_file
from mmkd_onnx.preparation import Placed, place

Image: TypeAlias = str | PathLike[str] | NDArray[Any]
Images: TypeAlias = list[Image] | tuple[Image, ...]


def load(
    path: str | PathLike[str], threads: int | None = None, providers: Sequence[Any] | None = None
) -> 'Detector':
    """Open a file that ``mmkd export --format onnx`` wrote.

    Args:
        path: the file.
        threads: of onnxruntime. Defaults to None, as many as it likes.
        providers: of onnxruntime, for example ``['CUDAExecutionProvider']``. Defaults to None, the
            CPU.

    Raises:
        FileNotFoundError: there is no such file.
        ModelFileError: it is no such file, or asks for what no detector needs.

    Example::

        from mmkd_onnx import load

        detect = load('student.onnx')
        detect('image.jpg').names
    """
    file, metadata = read_file(path)
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'an exported detector is run by onnxruntime, which is not installed. '
            'pip install onnxruntime'
        ) from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        session = onnxruntime.InferenceSession(
            os.fspath(file), options, providers=list(providers or ['CPUExecutionProvider'])
        )
    except Exception as error:  # onnxruntime's own, of several kinds
        raise ModelFileError(
            f'an exported detector must be a file that onnxruntime {onnxruntime.__version__} can '
            f'run, but of "{file}" it says: {" ".join(str(error).split())[:400]}. Export it again, '
            'with a lower --opset if onnxruntime is older.'
        ) from None
    return Detector(session, metadata, str(file))


@dataclass(frozen=True)
class Prepared:
    """An image that is ready for the model.

    Args:
        pixels (np.ndarray): (H, W, 3), as it was loaded; boxes lie in these.
        data: ``inputs``, the model's (3, H, W), and ``placed``, where in it the image lies.
    """

    pixels: NDArray[Any]
    data: dict[str, Any]


class Detector:
    """Finds objects in images, which ``detect(image)`` gives.

    Args:
        session: of onnxruntime.
        metadata: of the file.
        path: of the file.
    """

    def __init__(self, session: Any, metadata: Metadata, path: str = '') -> None:
        self.session = session
        self.metadata = metadata
        self.classes = metadata.classes
        self.size: tuple[int, int] = tuple(metadata.preprocessing['size'])
        self._outputs = [output.name for output in session.get_outputs()]
        self._path = path
        self._check()

    def _check(self) -> None:
        inputs = self.session.get_inputs()
        if len(inputs) != 1:
            raise ModelFileError(
                f'an exported detector must have one input, the images, but "{self._path}" has '
                f'{len(inputs)}. Export it again.'
            )
        [given] = inputs
        expected = ['tensor(uint8)', 'tensor(float)']
        kind = expected[self.metadata.preprocessing['input'] == 'float32']
        known = self._outputs in (self._rows_outputs(), ['detections'])
        if not known or given.type != kind or list(given.shape[1:]) != [3, *self.size]:
            raise ModelFileError(
                f'an exported detector must take (N, 3, {self.size[0]}, {self.size[1]}) {kind} and '
                f'give {", ".join(self._rows_outputs())}, or detections, but "{self._path}" takes '
                f'{given.shape} '
                f'{given.type} and gives {", ".join(self._outputs)}. Export it again.'
            )
        for output in self.session.get_outputs():
            sides = output.shape[1:]
            rows, names = sum(self.metadata.thresholds['levels']), len(self.classes)
            wanted = dict(
                boxes=[rows, 4], scores=[rows, names], factors=[rows, 1], detections=[None, 6]
            )[output.name]
            if (
                output.type != 'tensor(float)'
                or len(sides) != 2
                or any(
                    isinstance(side, int) and side != own
                    for side, own in zip(sides, wanted, strict=True)
                    if own is not None
                )
            ):
                raise ModelFileError(
                    f'the outputs of an exported detector must fit its metadata, {names} classes '
                    f'and {rows} rows, in float32, but "{self._path}" gives {output.name} of shape '
                    f'{output.shape}, {output.type}. Export it again.'
                )

    def _rows_outputs(self) -> list[str]:
        return ['boxes', 'scores', *['factors'] * ('factor' in self.metadata.thresholds)]

    @overload
    def __call__(self, image: Image, batch: int = ...) -> Detections: ...
    @overload
    def __call__(self, image: Images, batch: int = ...) -> list[Detections]: ...
    def __call__(self, image: Image | Images, batch: int = 1) -> Detections | list[Detections]:
        """Find the objects in an image, or in each of a list.

        Args:
            image: the path of a file, or an array as ``cv2.imread`` gives it: (H, W, 3) in BGR,
                uint8; also grey (H, W) and with alpha (H, W, 4).
            batch: how many of a list the model gets at once. Defaults to 1.

        Raises:
            ValueError: an image cannot be read, or is none.
        """
        check_batch(batch)
        if not isinstance(image, list | tuple):
            return self.run([self.prepare(image)])[0]
        return list(self._many(image, batch))

    def _many(self, images: Images, batch: int) -> Iterator[Detections]:
        for first in range(0, len(images), batch):
            yield from self.run([self.prepare(one) for one in images[first : first + batch]])

    def prepare(self, image: Image) -> Prepared:
        """Load an image and bring it to the model's input.

        Raises:
            ValueError: it cannot be read, or is none.
        """
        pixels = _loaded(image)
        try:
            placed = place(pixels, self.metadata.preprocessing)
        except cv2.error as error:  # to a size without pixels
            height, width = pixels.shape[:2]
            raise ValueError(
                f'an image must have a row and a column left where it is resized for an input of '
                f'{self.size[0]} x {self.size[1]}, but got {height} x {width}. Cut it to pieces.'
            ) from error
        return Prepared(pixels, {'inputs': placed.pixels, 'placed': placed})

    def raw(self, inputs: NDArray[Any]) -> list[NDArray[Any]]:
        """The outputs of the graph for a batch (N, 3, H, W)."""
        name = self.session.get_inputs()[0].name
        return self.session.run(None, {name: inputs})

    def run(self, prepared: Sequence[Prepared]) -> list[Detections]:
        """Find the objects in prepared images."""
        outputs = self.raw(np.stack([one.data['inputs'] for one in prepared]))
        return [
            self.detections([output[i] for output in outputs], one.data['placed'])
            for i, one in enumerate(prepared)
        ]

    def detections(self, outputs: Sequence[NDArray[Any]], placed: Placed) -> Detections:
        """The objects in the outputs of one image, in its own pixels."""
        boxes, scores, labels = self.chosen(outputs, placed)
        return Detections(placed.back(boxes), scores, labels, self.classes)

    def chosen(
        self, outputs: Sequence[NDArray[Any]], placed: Placed | None = None
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Boxes, scores and labels in the outputs of one image, in pixels of the input.

        Args:
            outputs: of one image.
            placed: where in the input it lies. Defaults to None: it is the whole input. A file with
                NMS knows of no other.
        """
        return self.chosen_rows(outputs, placed)[1:]

    def chosen_rows(
        self, outputs: Sequence[NDArray[Any]], placed: Placed | None = None
    ) -> tuple[NDArray[Any] | None, NDArray[Any], NDArray[Any], NDArray[Any]]:
        """As :meth:`chosen`, after which of the outputs' rows each is; None of a file with NMS."""
        which = None
        if len(outputs) == 1:
            found = outputs[0][outputs[0][:, 5] >= 0]
            boxes, scores, labels = found[:, :4], found[:, 4], found[:, 5].astype(np.int64)
        else:
            rows, of_classes, *factors = outputs
            rule = self.metadata.thresholds
            factor = factors[0] if factors else None
            chosen = choose_rows(rows, of_classes, rule, self.size, factor, placed)
            which, boxes, scores, labels = chosen
        foreign = labels[(labels < 0) | (labels >= len(self.classes))]
        if foreign.size:
            raise ModelFileError(
                f'the labels of an exported detector must be of its {len(self.classes)} classes, '
                f'but "{self._path}" gives {foreign[0]}. Export it again.'
            )
        return which, boxes, scores, labels


def check_batch(batch: int) -> None:
    """Check how many images are found in at once.

    Raises:
        ValueError: it is no whole number above 0.
    """
    if not isinstance(batch, int | np.integer) or batch < 1:
        raise ValueError(f'batch must be a whole number above 0, but got {batch!r}.')


def _loaded(image: Image) -> NDArray[Any]:
    if not isinstance(image, np.ndarray):
        return read_image(image)
    known = image.ndim > 1 and image.shape[2:] in ((), (1,), (3,), (4,))
    if image.dtype != np.uint8 or not image.size or not known:
        raise ValueError(
            'an image must be an array (H, W, 3) of uint8 in BGR order, but got '
            f'{image.dtype} of shape {image.shape}. Convert it.'
        )
    if image.ndim == 2 or image.shape[2] == 1:
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR))
    return image[..., :3]
