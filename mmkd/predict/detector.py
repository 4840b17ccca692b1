"""A detector of mmdet or MMYOLO, applied to images as its test pipeline prepares them."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from os import PathLike
from typing import Any, TypeAlias, overload

import cv2
import numpy as np
import torch
from mmcv.transforms import LoadImageFromFile
from mmengine.registry import DefaultScope
from numpy.typing import NDArray

from mmkd.errors import ImageError
from mmkd.predict.pixels import as_loaded
from mmkd_onnx import Detections
from mmkd_onnx.detector import check_batch

Image: TypeAlias = str | PathLike[str] | NDArray[Any]
Images: TypeAlias = list[Image] | tuple[Image, ...]


@dataclass(frozen=True, eq=False)
class Prepared:
    """An image that is ready for the model.

    Args:
        pixels (np.ndarray): (H, W) or (H, W, channels), as it was loaded; boxes lie in these.
        data: what the test pipeline made of it.
    """

    pixels: NDArray[Any]
    data: Mapping[str, Any]


class Detector:
    """Finds objects in images, which ``detect(image)`` gives.

    An image goes through the model's own test pipeline, so that what is found is what ``mmkd test``
    measures. It does not depend on the images beside it: a batch holds images of one prepared size.

    Args:
        model: in evaluation mode, on its device.
        transforms: the built test pipeline.
        classes: the names of the classes, in the order of the labels.
        scope: in which the model looks names up.
        batch_shapes: MMYOLO's ``BatchShapePolicy`` for one image, where the test set has one.
            Defaults to None.
        datasets: configs of the data sets that it is measured on. Defaults to none.
    """

    def __init__(
        self,
        model: Any,
        transforms: Sequence[Callable[[Any], Any]],
        classes: Sequence[str],
        scope: str = 'mmdet',
        batch_shapes: Callable[[list[dict[str, Any]]], list[dict[str, Any]]] | None = None,
        datasets: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self.model = model
        self.transforms = list(transforms)
        self.classes = tuple(classes)
        self.datasets = datasets
        self._scope = scope
        self._batch_shapes = batch_shapes

    @overload
    def __call__(self, image: Image, batch: int = ...) -> Detections: ...
    @overload
    def __call__(self, image: Images, batch: int = ...) -> list[Detections]: ...
    def __call__(self, image: Image | Images, batch: int = 1) -> Detections | list[Detections]:
        """Find the objects in an image, or in each of a list.

        Args:
            image: the path of a file, or an array as ``cv2.imread`` gives it: (H, W, 3) in BGR,
                uint8; also grey (H, W), with alpha (H, W, 4), and uint16, which become what the
                pipeline's loader makes of such a file.
            batch: how many of a list the model gets at once. Defaults to 1.

        Raises:
            ImageError: an image cannot be read, or is none.
            TypeError: it is neither a path nor an array.
            ValueError: ``batch`` is no whole number above 0.
        """
        check_batch(batch)
        if not isinstance(image, list | tuple):
            return self.run([self.prepare(image)])[0]
        prepared = map(self.prepare, image)
        return [
            found for group in groups(prepared, batch, lambda one: one) for found in self.run(group)
        ]

    def prepare(self, image: Image) -> Prepared:
        """Load an image and bring it through the test pipeline.

        Raises:
            ImageError: it cannot be read, or is none.
        """
        if not isinstance(image, str | PathLike | np.ndarray):
            raise TypeError(
                f'an image must be a path or an array, but got {type(image).__name__}. Of an image '
                "of Pillow give numpy.asarray(image.convert('RGB'))[..., ::-1]."
            )
        given = isinstance(image, np.ndarray)
        results: Any = dict(img_id=0, **{'img' if given else 'img_path': image})
        if not given:
            results['img_path'] = str(image)
        pixels = None
        with self._scoped():
            for transform in self.transforms:
                if pixels is None:
                    results = self._load(results, transform, '(an array)' if given else str(image))
                    if 'ori_shape' in results:
                        pixels = results['img'].copy()
                else:
                    results = _transformed(results, transform, pixels)
        if pixels is None or not isinstance(results, Mapping) or 'inputs' not in results:
            raise ValueError(
                'a test pipeline must load an image (LoadImageFromFile) and end with '
                'PackDetInputs, but got '
                f'{", ".join(type(one).__name__ for one in self.transforms) or "none"}.'
            )
        return Prepared(pixels, results)

    def _load(self, results: Any, transform: Callable[[Any], Any], name: str) -> Any:
        """A step of the pipeline up to the loaded image; what fails here is the image's fault."""
        try:
            if 'img' in results and isinstance(transform, LoadImageFromFile):
                results = as_loaded(results, transform)
            else:
                results = transform(results)
        except ImageError:
            raise
        except Exception as error:  # whatever the decoders of a user's own loader raise
            raise ImageError.of(name, error) from error
        if results is None:  # as a loader with ignore_empty gives
            raise ImageError.of(name, ValueError('it is empty'))
        if 'ori_shape' in results and self._batch_shapes is not None:
            height, width = results['ori_shape'][:2]
            [info] = self._batch_shapes([dict(width=width, height=height)])
            results['batch_shape'] = info['batch_shape']
        return results

    def run(self, prepared: Sequence[Prepared]) -> list[Detections]:
        """Find the objects in prepared images of one size.

        Raises:
            ImageError: the model cannot take an image.
        """
        batch = {
            'inputs': [one.data['inputs'] for one in prepared],
            'data_samples': [one.data['data_samples'] for one in prepared],
        }
        with self._scoped(), torch.no_grad():
            samples = self.model.test_step(batch)
        return [self._detections(sample) for sample in samples]

    def _scoped(self) -> AbstractContextManager[Any]:
        return DefaultScope.overwrite_default_scope(self._scope)

    def _detections(self, sample: Any) -> Detections:
        found = sample.get('pred_instances')
        if found is None or 'bboxes' not in found:
            raise ValueError(
                f'a model must predict boxes, but {type(self.model).__name__} gives '
                f'{", ".join(sample.all_keys()) or "nothing"}. Give a detector.'
            )
        boxes = getattr(found.bboxes, 'tensor', found.bboxes)  # mmdet may wrap them
        masks = found.get('masks')
        if masks is not None:
            masks = torch.as_tensor(masks).cpu().numpy().astype(bool)
        boxes, scores = boxes.float().cpu().numpy(), found.scores.float().cpu().numpy()
        labels = found.labels.cpu().numpy()
        detections = Detections(boxes, scores, labels, self._named(labels), masks)
        return detections.finite()

    def _named(self, labels: NDArray[Any]) -> tuple[str, ...]:
        """The classes, with made-up names for labels beyond them."""
        known = len(self.classes)
        most = int(labels.max(initial=-1)) + 1
        return self.classes + tuple(f'class {label}' for label in range(known, most))


def _transformed(
    results: Any, transform: Callable[[Any], Any], pixels: NDArray[Any]
) -> Mapping[str, Any]:
    """A step of the pipeline on a loaded image."""
    try:
        found: Mapping[str, Any] = transform(results)
    except ImageError:
        raise
    except (ArithmeticError, ValueError, cv2.error) as error:
        height, width = pixels.shape[:2]
        raise ImageError(
            f'each image must be one that {type(transform).__name__} can prepare, but '
            f'"{results.get("img_path") or "(an array)"}" of {height} x {width} pixels is not '
            f'({" ".join(str(error).split())}). Cut it to pieces, or leave it out.'
        ) from error
    return found


def groups(items: Iterable[Any], size: int, prepared: Callable[[Any], Prepared]) -> Iterator[Any]:
    """Lists of up to ``size`` consecutive items whose prepared images have one shape.

    Args:
        items: in order.
        size: at least 1.
        prepared: gives an item's image.
    """
    group: list[Any] = []
    for item in items:
        shapes = [prepared(one).data['inputs'].shape for one in [*group[:1], item]]
        if shapes[0] != shapes[-1]:
            yield group
            group = []
        group.append(item)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group
