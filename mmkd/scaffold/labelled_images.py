"""The images of a data set as they lie on the disk, and what is annotated in them."""

import os
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import cv2
from PIL import ExifTags, Image

from mmkd.config.names import first_of
from mmkd.datasets.part_names import part_of
from mmkd.errors import ImageError
from mmkd.fileio.files_below import files_below

#: Of files that are taken for images, in small or capital letters.
SUFFIXES = frozenset(('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp'))


class Annotated(NamedTuple):
    """An object.

    Args:
        name: its class.
        box: (x1, y1, x2, y2) in pixels.
        crowd: whether it is to be ignored: a crowd, or difficult.
    """

    name: str
    box: tuple[float, float, float, float]
    crowd: bool = False


@dataclass
class LabelledImage:
    """An image with its objects.

    Args:
        path: its file.
        size: (width, height) in pixels, by which the boxes count.
        objects: what is annotated.
    """

    path: Path
    size: tuple[int, int]
    objects: list[Annotated] = field(default_factory=list)


@dataclass
class Source:
    """A data set as it was found.

    Args:
        form: 'COCO', 'VOC' or 'YOLO'.
        classes: in the order of the labels.
        parts: by 'train', 'val' and 'test'; or 'all', where it is not split.
        notes: what was left out, or is worth a line.
        as_stored: whether boxes were drawn on the images as they are stored, not as their EXIF
            orientation turns them.
    """

    form: str
    classes: tuple[str, ...]
    parts: dict[str, list[LabelledImage]]
    notes: list[str] = field(default_factory=list)
    as_stored: bool = False


class Files:
    """The image files below some folders, found by path, by name or by stem."""

    def __init__(self, folders: Iterable[Path]) -> None:
        self.folders = list(dict.fromkeys(folders))
        self._names: dict[str, list[Path]] | None = None
        self._stems: dict[str, list[Path]] = {}

    def all(self) -> list[Path]:
        """All of them, in order."""
        return sorted({path for paths in self._index().values() for path in paths})

    def find(self, name: str, part: str | None = None) -> Path | None:
        """The file that a name means, which may hold folders, also of another machine.

        Args:
            name: as the annotations have it.
            part: 'train', 'val' or 'test': each may number its images anew, in folders of its own.
        """
        name = name.replace('\\', '/')
        if part is not None and '/' not in name:
            own = [path for path in self._index().get(name, []) if self._part(path) == part]
            if len(own) == 1:
                return own[0]
        for folder in self.folders:
            if (folder / name).is_file():
                return folder / name
        base = name.rpartition('/')[2]
        return self._only(self._index().get(base, []), name)

    def of_stem(self, path: Path) -> Path | None:
        """The image of a file of another kind, say ``a.xml``: beside it, or by its stem."""
        self._index()
        return self._only(self._stems.get(path.stem, []), str(path))

    def _part(self, path: Path) -> str | None:
        """The part of which the folders of a file speak, the nearest first."""
        top = os.path.commonpath([os.path.abspath(folder) for folder in self.folders])
        folders = Path(os.path.relpath(os.path.abspath(path), top)).parts[:-1]
        return next((part for part in map(part_of, reversed(folders)) if part), None)

    def _only(self, found: list[Path], wanted: str) -> Path | None:
        """Of several files that one which shares most folders at the end with what is wanted."""
        if len(found) < 2:
            return found[0] if found else None
        words = set(Path(wanted).parts[:-1])
        by_words = sorted(found, key=lambda path: -len(words & set(path.parts)))
        first, second = (len(words & set(path.parts)) for path in by_words[:2])
        return by_words[0] if first > second else None

    def _index(self) -> dict[str, list[Path]]:
        if self._names is None:
            self._names = {}
            every = [path for folder in self.folders for path in images_in(folder)]
            # One folder may lie in another, or be named twice, through a link.
            for path in {os.path.realpath(path): path for path in reversed(every)}.values():
                self._names.setdefault(path.name, []).append(path)
                self._stems.setdefault(path.stem, []).append(path)
        return self._names


def images_in(folder: Path) -> list[Path]:
    """The image files in a folder and below it, in order; hidden ones are none."""
    return sorted(path for path in map(Path, files_below(folder, SUFFIXES)) if path.is_file())


def stored_size(path: Path) -> tuple[tuple[int, int], bool]:
    """(width, height) of an image as it is stored, and whether EXIF swaps its sides.

    Raises:
        ImageError: it cannot be read.
    """
    try:
        with warnings.catch_warnings(), Image.open(path) as image:
            warnings.simplefilter('ignore')
            turned = int(image.getexif().get(ExifTags.Base.Orientation, 1)) in range(5, 9)
            return image.size, turned
    except Exception:  # not of Pillow's, or broken metadata: OpenCV may know it
        image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None:
        raise ImageError(
            f'each image must be a file that can be read, but "{path}" is not. Repair it, or '
            'take it out of the data.'
        )
    return (image.shape[1], image.shape[0]), False


def told_sizes(
    paths: Sequence[Path], declared: Sequence[tuple[float, float] | None]
) -> tuple[list[tuple[int, int]], bool]:
    """The size of each image by which its boxes count.

    Args:
        paths: the images.
        declared: what the annotations say; None where they say nothing.

    Returns:
        The sizes, and whether all are those of images as they are stored, though the EXIF
        orientation of some would turn them.

    Raises:
        ImageError: an image has another size than its annotations say.
    """
    found = [stored_size(path) for path in paths]
    as_seen = [size[::-1] if turned else size for size, turned in found]
    swapped = [
        given
        for given, (size, turned) in zip(declared, found, strict=True)
        if given is not None and turned and size[0] != size[1]
    ]
    stored = [size for size, turned in found if turned and size[0] != size[1]]
    as_stored = bool(swapped) and all(
        given is None or not turned or given == size
        for given, (size, turned) in zip(declared, found, strict=True)
    ) and len(swapped) == len(stored)  # fmt: skip
    sizes = [size for size, _ in found] if as_stored else as_seen
    wrong = [
        f'"{path}" ({given[0]:g} x {given[1]:g}, but it is {size[0]} x {size[1]})'
        for path, given, size in zip(paths, declared, sizes, strict=True)
        if given is not None and given != size
    ]
    if wrong:
        raise ImageError(
            'the annotations must give the size of each image as it is read, but of '
            f'{len(wrong)} they give another: {first_of(wrong)}. Boxes belong to the size that is '
            'given: put the original images back, or correct boxes, width and height.'
        )
    return sizes, as_stored
