"""The labels of images in YOLO form: a text file for each image."""

import math
from collections.abc import Sequence
from pathlib import Path

from mmkd.datasets.split import Faults
from mmkd.fileio.files_below import files_below
from mmkd.scaffold.labelled_images import images_in

#: Folders of labels, as people and programs write it.
_LABELS = ('labels', 'Labels', 'LABELS')

#: By how much a number may leave 0 to 1: labels are rounded.
_SLACK = 0.01

Box = tuple[float, float, float, float]


def label_files(data: Path) -> list[Path]:
    """Files of labels: text beside images, or in a folder ``labels``."""
    texts = map(Path, files_below(data, ('.txt',)))
    found = [
        path for path in texts if 'labels' in map(str.lower, path.relative_to(data).parts[:-1])
    ]
    beside = {path.with_suffix('.txt') for path in images_in(data)}
    return sorted({*found, *(path for path in beside if path.is_file())})


def labels_of(path: Path, pose: bool) -> tuple[Path, list[tuple[int, Box]]]:
    """A file of labels, and of each the class and the box (corners) in shares of the sides.

    Args:
        path: the file.
        pose: whether the points of a pose come after each box; they are left out.
    """
    if not path.is_file():
        return path, []
    rows, broken = [], []
    for number, line in enumerate(path.read_text(encoding='utf-8-sig').splitlines(), 1):
        if not line.strip():
            continue
        try:
            kind, *values = map(float, line.replace(',', ' ').split())
            values = values[:4] if pose else values
            box = _box(values)
        except ValueError:
            broken.append(f'line {number}: "{line.strip()[:60]}"')
            continue
        inside = all(-_SLACK <= value <= 1 + _SLACK for value in values)
        if not kind.is_integer() or kind < 0 or not inside:
            broken.append(f'line {number}: "{line.strip()[:60]}"')
        else:
            rows.append((int(kind), box))
    Faults('DATA', str(path)).refuse(
        'each line must be a class from 0 and a box (centre x, centre y, width, height) or a '
        'polygon, in shares of the sides from 0 to 1',
        broken,
        'Correct the lines.',
    )
    return path, rows


def _box(values: Sequence[float]) -> Box:
    """(x1, y1, x2, y2) of a box, with or without a score after it, or of a polygon."""
    if not all(map(math.isfinite, values)):
        raise ValueError(values)
    if len(values) in (4, 5):
        x, y, w, h = values[:4]
        return x - w / 2, y - h / 2, x + w / 2, y + h / 2
    if len(values) < 6 or len(values) % 2:
        raise ValueError(values)
    x_all, y_all = values[::2], values[1::2]
    return min(x_all), min(y_all), max(x_all), max(y_all)


def label_file(image: Path, root: Path) -> Path:
    """In the folder "labels" that answers to the last "images" of the path, beside it, or near."""
    parts = list(image.parts)
    places = [i for i, part in enumerate(parts[:-1]) if part.lower() == 'images']
    own = [
        Path(*parts[:place], word, *parts[place + 1 :]).with_suffix('.txt')
        for place in reversed(places)
        for word in _LABELS
    ]
    near = [image.parent, *(f / word for f in (image.parent, root) for word in _LABELS)]
    own += [folder / f'{image.stem}.txt' for folder in near]
    return next((path for path in own if path.is_file()), image.with_suffix('.txt'))


def in_pixels(box: Box, size: tuple[int, int]) -> Box:
    """A box in shares of the sides of an image of ``size`` (width, height), clipped to it."""
    x1, y1, x2, y2 = (min(max(value, 0.0), 1.0) for value in box)
    return x1 * size[0], y1 * size[1], x2 * size[0], y2 * size[1]
