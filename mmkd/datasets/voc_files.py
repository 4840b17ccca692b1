"""How the files of a VOC data set are read: by mmdet's rules, in checks and in training alike."""

import math
import os
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from typing import Any

from mmkd.datasets.kept_boxes import Box
from mmkd.fileio.nearby import absent

_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp')


def listed_images(path: str, **options: Any) -> list[str]:
    """The names on the lines of a VOC image list: blanks in them count, empty lines do not.

    Args:
        path: the list, in UTF-8; a byte order mark is no part of the first name.
        options: as for mmengine's ``list_from_file``.

    Raises:
        ValueError: it is not in UTF-8.
    """
    from mmengine.fileio import list_from_file

    lines = list_from_file(path, **options)
    lines[:1] = [line.removeprefix('\ufeff') for line in lines[:1]]
    return [line for line in lines if line.strip()]


class VocImages:
    """The images of XML files, by their names; each folder is listed once."""

    def __init__(self) -> None:
        self._listed: dict[str, dict[str, list[str]]] = {}  # folder -> name without suffix -> files

    def find(self, folder: str, name: str) -> str:
        """The image that is meant by ``name``, which ends in .jpg as mmdet takes each to do.

        Returns:
            Its name in ``folder``: ``name``, or that of the one file with another suffix.
        """
        parent, base = os.path.split(os.path.join(folder, name))
        if parent not in self._listed:
            self._listed[parent] = self._list(parent)
        files = self._listed[parent].get(os.path.splitext(base)[0], [])
        if base in files or len(files) != 1:
            return name
        return os.path.join(os.path.dirname(name), files[0])

    def _list(self, folder: str) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for entry in os.listdir(folder or '.') if os.path.isdir(folder or '.') else ():
            stem, suffix = os.path.splitext(entry)
            if suffix.lower() in _SUFFIXES:
                found.setdefault(stem, []).append(entry)
        return found


def read_voc(
    path: str, classes: Sequence[str] | None, unknown: bool = False
) -> tuple[tuple[float, float], list[tuple[str, Box | None, bool]]]:
    """What mmdet reads of an XML file.

    Args:
        path: the file.
        classes: names of the objects that are read. None reads all.
        unknown: whether a size of 0 and an empty ``difficult`` say nothing, as exporters write
            them, which mmdet does not read. Defaults to False.

    Returns:
        The image's size, endless if not given, and its objects: name, box and whether it is
        difficult. Of an object whose name is not in ``classes`` nothing else is read: its box is
        None.

    Raises:
        ET.ParseError, ValueError, OverflowError, LookupError, OSError: it cannot be read.
    """
    root = ET.parse(path).getroot()
    size = root.find('size')
    width = height = math.inf
    if size is not None:
        width, height = (int(_text(size, key)) for key in ('width', 'height'))
        if unknown and not (width and height):
            width = height = math.inf
        if width <= 0 or height <= 0:
            raise ValueError(f'size {width} x {height}')
    objects: list[tuple[str, Box | None, bool]] = []
    item: Any
    for item in root.findall('object'):
        if item.find('name') is None:
            raise ValueError('no name')
        name = item.find('name').text
        if classes is not None and name not in classes:
            objects.append((name, None, False))
            continue
        difficult = item.find('difficult')
        if unknown and difficult is not None and not (difficult.text or '').strip():
            difficult = None
        try:
            hard = difficult is not None and bool(int(difficult.text or ''))
        except ValueError:
            raise ValueError(f'difficult is {difficult.text!r}') from None
        corners = item.find('bndbox')
        # int(float()) refuses what is not finite
        box = [int(float(_text(corners, key))) - 1 for key in ('xmin', 'ymin', 'xmax', 'ymax')]
        objects.append((name, box, hard))
    return (width, height), objects


def flags_of_a_class(folder: str, names: list[str]) -> str:
    """Advice where each line ends in -1, 0 or 1, as in the lists of a class that VOC brings."""
    words = [name.split() for name in names]
    if not names or any(len(line) != 2 or line[1] not in ('-1', '0', '1') for line in words):
        return ''
    if absent(folder, [f'{line[0]}.xml' for line in words]):
        return ''
    return (
        ' It is the list of one class, with 1 behind the images that have it: give the list of '
        'all images, or one with the names alone.'
    )


def _text(element: Any, key: str) -> str:
    found = None if element is None else element.find(key)
    if found is None or not found.text:
        raise ValueError(f'no {key}')
    return found.text
