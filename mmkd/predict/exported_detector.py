"""A detector that ``mmkd export --format onnx`` wrote, applied to images like any other."""

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from mmcv.transforms import LoadImageFromFile

import mmkd_onnx
from mmkd.errors import ImageError
from mmkd.predict.detector import Detector, Prepared
from mmkd_onnx import Detections


class ExportedDetector(Detector):
    """Loads images by mmkd's rules; ``mmkd_onnx`` does the rest.

    Args:
        exported: the opened file.
        datasets: as of :class:`Detector`. Defaults to None: those that the file names.
    """

    def __init__(
        self, exported: mmkd_onnx.Detector, datasets: Sequence[Mapping[str, Any]] | None = None
    ) -> None:
        transforms = [LoadImageFromFile(), self._placed]
        known = exported.metadata.datasets if datasets is None else datasets
        super().__init__(exported, transforms, exported.classes, datasets=known)

    def _placed(self, results: dict[str, Any]) -> dict[str, Any]:
        image = results['img']
        if image.dtype.kind == 'f':  # an array from 0 to 255; a file is of whole numbers
            image = image.clip(0, 255).round().astype(np.uint8)
        try:
            data: dict[str, Any] = self.model.prepare(image).data
        except (ValueError, cv2.error) as error:  # too narrow to be resized, say
            raise ImageError.of(str(results.get('img_path') or '(an array)'), error) from error
        return data

    def run(self, prepared: Sequence[Prepared]) -> list[Detections]:
        """Find the objects in prepared images."""
        return [found.finite() for found in self.model.run(prepared)]


def open_exported(
    path: str,
    place: torch.device,
    named: bool,
    datasets: Sequence[Mapping[str, Any]] | None = None,
) -> ExportedDetector:
    """Open an exported file.

    Args:
        path: of the file.
        place: where it is to compute.
        named: whether somebody asked for that place, so that no other will do.
        datasets: see :class:`ExportedDetector`.

    Raises:
        ModuleNotFoundError: onnxruntime is not installed.
        ModelFileError: the file is none of mmkd's, or asks for what no detector needs.
        ValueError: onnxruntime cannot compute there.
    """
    providers = _providers(place, named) if place.type != 'cpu' else None
    return ExportedDetector(mmkd_onnx.load(path, providers=providers), datasets)


def _providers(place: torch.device, named: bool) -> list[Any] | None:
    import onnxruntime

    known = onnxruntime.get_available_providers()
    if place.type == 'cuda' and 'CUDAExecutionProvider' in known:
        settings = {'device_id': place.index or 0}
        return [('CUDAExecutionProvider', settings), 'CPUExecutionProvider']
    if named:
        raise ValueError(
            f'the device of an exported file must be one that onnxruntime computes on, but got '
            f'"{place}", and it has {", ".join(known)}. Give --device cpu, or install '
            'onnxruntime-gpu.'
        )
    return None
