"""An image brought to the input of an exported detector, as its metadata say; and boxes back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

#: How an image may be resized, as mmcv calls it.
INTERPOLATIONS = {
    'nearest': cv2.INTER_NEAREST,
    'bilinear': cv2.INTER_LINEAR,
    'bicubic': cv2.INTER_CUBIC,
    'area': cv2.INTER_AREA,
    'lanczos': cv2.INTER_LANCZOS4,
}


@dataclass(frozen=True)
class Placed:
    """An image in the input of a model.

    Args:
        pixels (np.ndarray): (3, H, W), uint8 or float32, in BGR order.
        scale: (x, y): pixels of the input for one of the image.
        offset: (x, y) of the image's corner in the input.
        shape: (height, width) of the image as it was loaded.
        bounds: (height, width) in the input to which the detector clips boxes. Defaults to None:
            the whole input.
    """

    pixels: NDArray[Any]
    scale: tuple[float, float]
    offset: tuple[int, int]
    shape: tuple[int, int]
    bounds: tuple[int, int] | None = None

    def back(self, boxes: NDArray[Any]) -> NDArray[Any]:
        """Boxes (n, 4) of the input as boxes of the image, clipped to it.

        >>> placed = Placed(np.zeros((3, 8, 8)), (2.0, 2.0), (0, 2), (2, 4))
        >>> placed.back(np.array([[0.0, 0, 4, 4]]))
        array([[0., 0., 2., 1.]], dtype=float32)
        """
        height, width = self.shape
        moved = (boxes - np.tile(self.offset, 2)) / np.tile(self.scale, 2)
        return np.minimum(np.maximum(moved, 0), [width, height, width, height]).astype(np.float32)


def place(image: NDArray[Any], rule: Mapping[str, Any]) -> Placed:
    """Resize and pad an image.

    Args:
        image: (H, W, 3), uint8, in BGR order.
        rule: the file's ``preprocessing``: ``size`` (H, W), ``steps`` in their order, ``padding``
            (three numbers: blue, green, red), ``input`` ('uint8' or 'float32') and, where boxes
            are clipped to less than the input, ``clip``: to the resized image, whose sides are
            padded to the longer one (``square``) and to multiples of ``divisor``.
    """
    shape: tuple[int, int] = (image.shape[0], image.shape[1])
    inner, offset = shape, (0, 0)  # size and corner of what is no padding
    for step in rule['steps']:
        if step['step'] == 'letterbox':
            image, inner, offset = _letterbox(image, step)
        else:
            image = (_resized if step['step'] == 'resize' else _shrunk)(image, step)
            inner = image.shape[0], image.shape[1]
    height, width = rule['size']
    placed = np.empty((height, width, 3), np.dtype(rule['input']))
    placed[:] = rule['padding']
    placed[: image.shape[0], : image.shape[1]] = image
    scale = inner[1] / shape[1], inner[0] / shape[0]
    bounds = _bounds(inner, rule['clip'], rule['size']) if rule.get('clip') else None
    return Placed(np.ascontiguousarray(placed.transpose(2, 0, 1)), scale, offset, shape, bounds)


def _bounds(
    inner: tuple[int, int], clip: Mapping[str, Any], size: Sequence[int]
) -> tuple[int, int]:
    """What a detector takes for the image: its sides (height, width) after the pipeline's Pad.

    >>> _bounds((40, 64), dict(square=False, divisor=32), (64, 64))
    (64, 64)
    >>> _bounds((40, 64), dict(square=False, divisor=1), (64, 64))
    (40, 64)
    """
    sides = (max(inner),) * 2 if clip['square'] else inner
    padded = [-(-side // clip['divisor']) * clip['divisor'] for side in sides]
    return min(padded[0], size[0]), min(padded[1], size[1])


def _resized(image: NDArray[Any], step: Mapping[str, Any]) -> NDArray[Any]:
    """As mmcv does: to ``scale`` (w, h), or as large as fits into it, lying or standing."""
    height, width = image.shape[:2]
    w, h = step['scale']
    if step['keep_ratio']:
        ratio = _ratio(image, step['scale'])
        w, h = int(width * ratio + 0.5), int(height * ratio + 0.5)
    most = step['within']  # (H, W) of the input, which a fixed input cannot exceed
    if h > most[0] or w > most[1]:
        ratio = min(most[0] / height, most[1] / width)
        w, h = (max(int(side * ratio + 1e-6), 1) for side in (width, height))
    return cv2.resize(image, (w, h), interpolation=INTERPOLATIONS[step['interpolation']])


def _shrunk(image: NDArray[Any], step: Mapping[str, Any]) -> NDArray[Any]:
    """As MMYOLO's YOLOv5KeepRatioResize does."""
    height, width = image.shape[:2]
    ratio = _ratio(image, step['scale'])
    if ratio == 1:
        return image
    how = cv2.INTER_AREA if ratio < 1 else cv2.INTER_LINEAR
    size = max(int(width * ratio), 1), max(int(height * ratio), 1)
    return cv2.resize(image, size, interpolation=how)


def _ratio(image: NDArray[Any], scale: Sequence[int]) -> float:
    sides = image.shape[:2]
    return min(max(scale) / max(sides), min(scale) / min(sides))


def _letterbox(
    image: NDArray[Any], step: Mapping[str, Any]
) -> tuple[NDArray[Any], tuple[int, int], tuple[int, int]]:
    """As MMYOLO's LetterResize does: the image in the middle of ``size`` (H, W)."""
    height, width = step['size']
    sides = image.shape[:2]
    ratio = min(height / sides[0], width / sides[1])
    if not step['allow_scale_up']:
        ratio = min(ratio, 1.0)
    inner = round(sides[0] * ratio), round(sides[1] * ratio)
    if step['stretch']:
        inner = height, width
    if inner != sides:
        how = INTERPOLATIONS[step['interpolation']]
        image = cv2.resize(image, inner[::-1], interpolation=how)
    top, left = (round((a - b) // 2 - 0.1) for a, b in zip((height, width), inner, strict=True))
    boxed = np.empty((height, width, 3), image.dtype)
    boxed[:] = step['value']
    boxed[top : top + inner[0], left : left + inner[1]] = image
    return boxed, inner, (left, top)
