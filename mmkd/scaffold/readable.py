"""Images that cannot be loaded: they are left out, and told."""

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from mmkd.config.names import first_of
from mmkd_onnx.image_file import check_whole


def unreadable(paths: Iterable[Path]) -> dict[Path, str]:
    """The images that the loader of a training would refuse, and why.

    Raises:
        ValueError: no image is left.
    """
    paths = list(dict.fromkeys(paths))
    found = {path: fault for path in paths if (fault := _fault(path))}
    if found and len(found) == len(paths):
        raise ValueError(
            f'some image must be one that can be read, but of {len(paths)} none can: '
            f'{first_of(_named(found))}. Copy them anew.'
        )
    return found


def told(found: dict[Path, str], count: int) -> list[str]:
    """A line on the images that are left out, if there are some.

    Args:
        found: by file why it cannot be read.
        count: of all images.
    """
    if not found:
        return []
    are = 'is' if len(found) == 1 else 'are'
    return [
        f'{len(found)} of {count} images cannot be read and {are} left out: '
        f'{first_of(_named(found))}'
    ]


def _named(found: dict[Path, str]) -> list[str]:
    return [f'"{path}" ({fault})' for path, fault in found.items()]


def _fault(path: Path) -> str:
    try:
        content = path.read_bytes()
        if not content:
            return 'it is empty'
        check_whole(content)
        small = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_REDUCED_GRAYSCALE_8)
    except (OSError, ValueError, cv2.error) as error:
        return ' '.join(str(error).split())
    return 'it is no image, or broken' if small is None else ''
