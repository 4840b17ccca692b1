"""The rules that VOC XML files are held to; docs/data.md lists them."""

import math
import os
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Sequence
from typing import Any

from mmkd.datasets.kept_boxes import Box, inside
from mmkd.datasets.split import CLIPPED, NOT_KEPT, Faults, Split
from mmkd.datasets.voc_files import flags_of_a_class, listed_images, read_voc
from mmkd.fileio.nearby import absent, hint

_TWICE = 'objects that are there twice left out'


def check_voc(
    where: str,
    path: str,
    folder: str,
    classes: Sequence[str] | None,
    min_size: float = 0,
    bbox_min_size: float = 0,
) -> Split:
    """Hold the XML files that an image list names to the rules.

    Args:
        where: the loader's key, for messages.
        path: the list, a name on each line.
        folder: where the XML files are.
        classes: what the data set's labels mean. None takes every name.
        min_size: as of :func:`check_coco`.
        bbox_min_size: smaller boxes, in pixels, are to be ignored. Defaults to 0.

    Raises:
        FileNotFoundError: a listed image has no XML file.
        ValueError: a file breaks a rule.
    """
    try:
        names = listed_images(path)
    except ValueError as error:
        raise ValueError(
            f'{where}: ann_file must be a list of images in UTF-8, but "{path}" is not ({error}). '
            'Save it as UTF-8 text, a name without suffix on each line.'
        ) from error
    lost = absent(folder, [f'{name}.xml' for name in names])
    if not names or lost:
        fault = f'{len(lost)} of its {len(names)} names' if names else 'it is empty:'
        raise FileNotFoundError(
            f'{where}: ann_file must list images that have an XML file in "{folder}", but for '
            f'"{path}" {fault} have none ({", ".join(lost[:3])}). Correct ann_file, a '
            f'name without suffix on each line, or ann_subdir.'
            f'{flags_of_a_class(folder, names) or hint(folder, lost)}'
        )
    faults = Faults(where, path)
    repeated = [name for name, count in Counter(names).items() if count > 1]
    faults.refuse('each image must be listed once', repeated, 'Take the others out.')
    tally, found, broken, sized = Counter[str](), Counter(dict.fromkeys(classes or (), 0)), [], True
    for name in names:
        try:
            size, objects = read_voc(os.path.join(folder, f'{name}.xml'), classes)
        except (ET.ParseError, ValueError, OverflowError, LookupError, OSError) as error:
            broken.append(f'{name}.xml ({error})')
            continue
        sized = sized and math.isfinite(size[0])
        ignored: dict[tuple[Any, ...], bool] = {}
        for kind, box, difficult in objects:
            if box is None:
                tally['objects with names that metainfo.classes does not have left out'] += 1
                continue
            part = inside(box, *size)
            _count(tally, box, part)
            if part is not None:
                key, small = (kind, *part), min(box[2] - box[0], box[3] - box[1]) < bbox_min_size
                if key in ignored:
                    tally[_TWICE] += 1
                ignored[key] = ignored.get(key, True) and (difficult or small)
        if min(size) >= min_size:
            found.update(kind for (kind, *_), yes in ignored.items() if not yes)
    faults.refuse(
        'each XML file must give an image size above 0, if any, and for each object a name, four '
        'finite coordinates, and a whole number as difficult, if any',
        broken,
        'Correct the files; without <size>, the size is that of the image.',
    )
    return Split(path, names, found, tally, sized)


def _count(tally: Counter[Any], box: Box, part: Box | None) -> None:
    if part is None:
        tally[NOT_KEPT] += 1
    elif part is not box:
        tally[CLIPPED] += 1
