"""What a detector is to look at: images, globs, folders, videos, a camera."""

import glob
import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2

from mmkd.datasets.listed_images import ENDINGS
from mmkd.fileio.files_below import files_below
from mmkd.fileio.nearby import hint

#: Endings by which a file in a folder is taken for an image or a video; others are left out.
IMAGES = ENDINGS
VIDEOS = frozenset(
    (
        *('.mp4', '.m4v', '.mov', '.avi', '.mkv', '.webm', '.mpg', '.mpeg', '.wmv', '.flv'),
        *('.ts', '.3gp', '.ogv', '.mts', '.m2ts'),
    )
)


@dataclass(frozen=True)
class Source:
    """A file, or a camera.

    Args:
        kind: what it is, by its ending, or else by its content.
        path: of the file; of a camera its index or its device.
        name: what it is called in results, with ``/``, different for each source.
    """

    kind: Literal['image', 'video', 'camera']
    path: str
    name: str


def find_sources(words: Sequence[str], besides: Iterable[str | Path] = ()) -> list[Source]:
    """The images, videos or camera that words of a command line name, in order, each once.

    A file that is there is meant before a glob or a camera of its name. Of folders, all files
    below count whose endings are those of images or videos, hidden ones excepted. A file that is
    named itself counts whatever its ending is. Names are paths as seen from the deepest folder that
    all files share.

    Args:
        words: paths, globs (with ``**``), folders, or the index of a camera.
        besides: folders that are left out where a glob or a folder would find them.

    Raises:
        FileNotFoundError: there is no such file, or none that a glob or folder would find.
        ValueError: a camera is not alone; a file is no regular one.
    """
    left_out = {os.path.realpath(folder) for folder in besides}
    files: dict[str, str] = {}
    cameras = []
    for word in words:
        camera = _camera(word)
        if camera is not None:
            cameras.append(Source('camera', camera, f'camera_{Path(camera).name}'))
            continue
        for path in _files(word, left_out):
            files.setdefault(os.path.realpath(path), path)
    if cameras:
        if files or len(cameras) > 1:
            raise ValueError(
                'a camera, which has no end, must be the only source, but got '
                f'{", ".join(words)}. Give it alone.'
            )
        return cameras
    paths = [os.path.abspath(path) for path in files.values()]
    shared = os.path.commonpath([os.path.dirname(path) for path in paths])
    return [
        Source(_kind(given), given, Path(os.path.relpath(path, shared)).as_posix())
        for given, path in zip(files.values(), paths, strict=True)
    ]


def _camera(word: str) -> str | None:
    if os.path.exists(word):
        return word if stat.S_ISCHR(os.stat(word).st_mode) else None
    return word if word.isascii() and word.isdecimal() else None


def _files(word: str, left_out: set[str]) -> list[str]:
    path = os.path.expanduser(word)
    if os.path.isdir(path):
        found = list(files_below(path, IMAGES | VIDEOS, left_out))
        if not found:
            raise FileNotFoundError(
                f'a folder must have images or videos, but "{word}" has none '
                f'({", ".join(sorted(IMAGES)[:4])}, ...). Name a folder that has, or files.'
            )
        return found
    if os.path.exists(path):
        if not os.path.isfile(path):
            raise ValueError(f'a source must be a regular file, but "{word}" is none.')
        return [path]
    if glob.has_magic(path):
        found = []
        for match in sorted(glob.glob(path, recursive=True)):
            within = {str(folder) for folder in Path(os.path.realpath(match)).parents}
            if os.path.isdir(match):
                found += files_below(match, IMAGES | VIDEOS, left_out)
            elif not within & left_out:
                found.append(match)
        if not found:
            raise FileNotFoundError(
                f'a glob must match files, but there is none for "{word}" (seen from '
                f'{os.getcwd()}). Correct it.'
            )
        return found
    raise FileNotFoundError(
        f'a source must be an image, a video, a folder, a glob or the index of a camera, but there '
        f'is no file "{word}" (seen from {os.getcwd()}). Correct the path.'
        f'{hint(os.path.dirname(path), [os.path.basename(path)])}'
    )


def _kind(path: str) -> Literal['image', 'video']:
    suffix = Path(path).suffix.lower()
    if suffix in IMAGES:
        return 'image'
    if suffix in VIDEOS:
        return 'video'
    with open(path, 'rb') as file:
        if not file.read(1):
            return 'image'  # which cannot be read, as will be told
    # OpenCV opens an image as a video, too.
    if cv2.haveImageReader(path):
        return 'image'
    video = cv2.VideoCapture(path)
    try:
        return 'video' if video.isOpened() else 'image'
    finally:
        video.release()
