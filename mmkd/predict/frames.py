"""The images of a source, one after the other."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite
from typing import Any

import cv2
from numpy.typing import NDArray

from mmkd.errors import ImageError
from mmkd.predict.sources import Source

#: Of a video that does not tell its own.
_USUAL_RATE = 25.0


@dataclass(frozen=True, eq=False)
class Frame:
    """An image of a source.

    Args:
        source: where it is from.
        image: the path of an image, or (H, W, 3) in BGR of a video or camera.
        number: its place in the video, from 0. Defaults to None, an image.
        rate: of the video, in frames a second.
    """

    source: Source
    image: str | NDArray[Any]
    number: int | None = None
    rate: float = _USUAL_RATE


def count_frames(source: Source) -> int | None:
    """How many images a source says it has; None where it does not."""
    if source.kind != 'video':
        return 1 if source.kind == 'image' else None
    video = cv2.VideoCapture(source.path)
    try:
        count = int(video.get(cv2.CAP_PROP_FRAME_COUNT)) if video.isOpened() else 0
    finally:
        video.release()
    return count if count > 0 else None


def open_camera(source: Source) -> cv2.VideoCapture:
    """A camera that gives images.

    Raises:
        ValueError: there is none at this index.
    """
    video = cv2.VideoCapture(int(source.path) if source.path.isdecimal() else source.path)
    if not video.isOpened():
        raise ValueError(
            f'a camera must be there, but none opens at "{source.path}". The first has index 0; '
            'another program may use it.'
        )
    return video


def frames(source: Source, camera: cv2.VideoCapture | None = None) -> Iterator[Frame]:
    """Read a source.

    Args:
        source: what to read.
        camera: that it is, opened.

    Raises:
        ImageError: a video cannot be opened, or breaks off.
    """
    if source.kind == 'image':
        yield Frame(source, source.path)
        return
    video = cv2.VideoCapture(source.path) if camera is None else camera
    try:
        rate = video.get(cv2.CAP_PROP_FPS)
        rate = rate if isfinite(rate) and 0 < rate <= 1000 else _USUAL_RATE
        said = video.get(cv2.CAP_PROP_FRAME_COUNT) if camera is None else 0
        number = 0
        while True:
            read, image = video.read()
            if not read:
                break
            yield Frame(source, image, number, rate)
            number += 1
    finally:
        video.release()
    if camera is None and not number:
        raise ImageError(f'"{source.path}" is no video that OpenCV can read')
    if number < 0.9 * said - 2:  # containers count roughly
        raise ImageError(f'"{source.path}" breaks off: {number} of {said:.0f} frames were read')
