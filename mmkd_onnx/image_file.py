"""An image read from its file."""

import os
from os import PathLike
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray


def read_image(path: str | PathLike[str]) -> NDArray[Any]:
    """(H, W, 3) in BGR order, uint8, turned as its EXIF orientation says.

    Raises:
        ValueError: there is no such file, or OpenCV cannot read it, or not all of it.
    """
    why = ''
    try:
        with open(os.fspath(path), 'rb') as file:
            content = file.read()
        check_whole(content)
        # From memory: cv2.imread fails for a TIFF that its orientation turns on its side.
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    except (OSError, ValueError, cv2.error) as error:  # OpenCV's of more pixels than it takes
        pixels = None
        why = '' if isinstance(error, cv2.error) else f' ({error})'
    if pixels is None:
        raise ValueError(
            f'an image must be a file that OpenCV can read, but "{path}" is not{why}. '
            'Correct the path, or get the file again.'
        )
    return np.asarray(pixels)


def check_whole(content: bytes) -> None:
    """Check that a file has content, and a JPEG its end; decoders see to that of other formats.

    In a JPEG's coded data no marker occurs, so that a whole one has an end-of-image marker behind
    its last start-of-scan, whatever thumbnails precede it or zeros follow it.

    Raises:
        ValueError: it is empty or has no end.

    Example:
        >>> check_whole(bytes.fromhex('ffd8 ffda 0123 ffd9 0000'))
    """
    if not content:
        raise ValueError('the file is empty')
    if content.startswith(b'\xff\xd8') and not content.endswith(b'\xff\xd9'):
        end, scan = content.rfind(b'\xff\xd9'), content.rfind(b'\xff\xda')
        if end < max(scan, 0):
            raise ValueError(f'the JPEG breaks off after {len(content)} bytes')
