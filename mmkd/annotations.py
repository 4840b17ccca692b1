"""The rules that annotations are held to; docs/data.md lists them."""

import json
import math
import os
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mmkd.nearby import absent, hint
from mmkd.voc_files import Box, flags_of_a_class, listed_images, read_voc


def inside(box: Box, width: float, height: float) -> Box | None:
    """The part of a box (x1, y1, x2, y2) that lies in the image, all in pixels.

    Returns:
        ``box`` itself where all of it does, and None where less than one pixel either way is left.
    """
    x1, y1, x2, y2 = box
    if x1 < 0 or y1 < 0 or x2 > width or y2 > height:
        box = [max(x1, 0), max(y1, 0), min(x2, width), min(y2, height)]
        x1, y1, x2, y2 = box
    return box if x2 - x1 >= 1 and y2 - y1 >= 1 else None


def keep_valid_boxes(data_info: dict) -> dict:
    """Clip the boxes of one image of an mmdet data set, and leave out what is not in the image."""
    kept = []
    for instance in data_info['instances']:
        box = inside(instance['bbox'], data_info['width'], data_info['height'])
        if box is not None:
            kept.append(instance if box is instance['bbox'] else {**instance, 'bbox': box})
    data_info['instances'] = kept
    return data_info


class _Faults:
    """What one annotation file breaks: the first offender against the rules is an error."""

    def __init__(self, where: str, path: str) -> None:
        self.where = where
        self.path = path

    def refuse(self, rule: str, offenders: Iterable[Any], remedy: str) -> None:
        """Raise if there are ``offenders``: each is named up to the third, and all are counted."""
        found = list(offenders)
        if found:
            first = ', '.join(map(str, found[:3])) + (', ...' if len(found) > 3 else '')
            raise ValueError(
                f'{self.where}: {rule}, but in "{self.path}" {len(found)} '
                f'{"does" if len(found) == 1 else "do"} not: {first}. {remedy}'
            )

    def note(self, left_out: Counter) -> list[str]:
        """One line for the log, or none."""
        counts = ', '.join(f'{count} {what}' for what, count in left_out.items())
        return [f'{self.where}: of "{self.path}", {counts} (docs/data.md)'] if counts else []


def check_coco(
    where: str, path: str, classes: Sequence[str] | None, training: bool
) -> tuple[list[str], list[str]]:
    """Hold a COCO JSON file to the rules.

    Args:
        where: the loader's key, for messages.
        path: the file.
        classes: what the data set's labels mean. None takes the file's categories.
        training: whether the images must have a box left.

    Returns:
        The images' file names, and what is left out or clipped, for the log.

    Raises:
        ValueError: the file breaks a rule.
    """
    content = _read_coco(where, path)
    faults = _Faults(where, path)
    images, annotations = content['images'], content['annotations']
    faults.refuse(
        'each image must have id, file_name, and a width and height above 0',
        (
            image.get('id', image)
            for image in images
            if not (_is_id(image.get('id')) and image.get('file_name') and _is_size(image))
        ),
        'Correct the images.',
    )
    if not images:
        faults.refuse('a split must have images', ['"images" is empty'], 'Correct ann_file.')
    faults.refuse('image ids must differ', _repeated(images), 'Give each image its own id.')
    faults.refuse(
        'annotations must have id, image_id, category_id, area and a bbox of four numbers',
        (a.get('id', a) for a in annotations if not _is_annotation(a)),
        'Correct the annotations.',
    )
    faults.refuse('annotation ids must differ', _repeated(annotations), 'Number them anew.')
    names = {category.get('id'): category.get('name') for category in content['categories']}
    _check_categories(faults, content['categories'], classes)

    sizes = {image['id']: (image['width'], image['height']) for image in images}
    faults.refuse(
        'the image_id of each annotation must be that of an image',
        (
            f'{a["image_id"]} (annotation {a["id"]})'
            for a in annotations
            if a['image_id'] not in sizes
        ),
        'Add the images, or take these annotations out.',
    )
    faults.refuse(
        f'each category_id must be one of the categories ({_few(names)})',
        (
            f'{a["category_id"]} (annotation {a["id"]})'
            for a in annotations
            if a['category_id'] not in names
        ),
        'Add the categories, or take these annotations out.',
    )
    wanted = {key for key, name in names.items() if classes is None or name in classes}
    tally, kept = Counter[str](), 0
    for annotation in annotations:
        if annotation['category_id'] not in wanted:
            tally['annotations of categories that metainfo.classes does not name left out'] += 1
            continue
        x, y, width, height = annotation['bbox']
        box = (x, y, x + width, y + height)
        part = None if annotation['area'] <= 0 else inside(box, *sizes[annotation['image_id']])
        kept += _count(tally, box, part)
    if training and not kept:
        faults.refuse('some box must be left to learn from', ['none is'], 'Correct the boxes.')
    return [image['file_name'] for image in images], faults.note(tally)


def check_voc(
    where: str, path: str, folder: str, classes: Sequence[str] | None, training: bool
) -> tuple[list[str], list[str]]:
    """Hold the XML files that an image list names to the rules; as :func:`check_coco`.

    Args:
        where: the loader's key, for messages.
        path: the list, a name on each line.
        folder: where the XML files are.
        classes: what the data set's labels mean. None takes every name.
        training: whether the images must have a box left.

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
            f'"{path}" {fault} have none ({", ".join(lost[:3])}). Correct ann_file or ann_subdir.'
            f'{flags_of_a_class(folder, names) or hint(folder, lost)}'
        )
    faults = _Faults(where, path)
    repeated = [name for name, count in Counter(names).items() if count > 1]
    faults.refuse('each image must be listed once', repeated, 'Take the others out.')
    tally, kept, broken = Counter[str](), 0, []
    for name in names:
        try:
            size, objects = read_voc(os.path.join(folder, f'{name}.xml'), classes)
        except (ET.ParseError, ValueError, OverflowError, LookupError, OSError) as error:
            broken.append(f'{name}.xml ({error})')
            continue
        for box, difficult in objects:
            if box is None:
                tally['objects with names that metainfo.classes does not have left out'] += 1
            else:
                kept += _count(tally, box, inside(box, *size)) and not difficult
    faults.refuse(
        'each XML file must give an image size above 0, if any, and for each object a name, four '
        'finite coordinates, and a whole number as difficult, if any',
        broken,
        'Correct the files.',
    )
    if training and not kept:
        faults.refuse('some box must be left to learn from', ['none is'], 'Correct the boxes.')
    return names, faults.note(tally)


def check_images(where: str, folder: str, names: Iterable[str], key: str) -> None:
    """Check that the files ``names``, which may name folders too, are in ``folder``.

    Raises:
        FileNotFoundError: some are not; the first are named, and all counted.
    """
    names = list(names)
    lost = absent(folder, names)
    if lost:
        raise FileNotFoundError(
            f'{where}: each image of the split must exist, but of {len(names)} in "{folder}" '
            f'{len(lost)} do not: {_few(lost)}. Put them there, or correct {key}.'
            f'{hint(folder, lost)}'
        )


def _read_coco(where: str, path: str) -> dict:
    try:
        with open(path, encoding='utf-8') as file:
            content = json.load(file)
    except (ValueError, OSError) as error:
        raise ValueError(
            f'{where}: ann_file must be COCO JSON, but "{path}" cannot be read as JSON ({error}). '
            'Give the annotation file, not the images or a list.'
        ) from error
    lacking = [
        key
        for key in ('images', 'annotations', 'categories')
        if not isinstance(content, dict)
        or not isinstance(content.get(key), list)
        or not all(isinstance(item, dict) for item in content[key])
    ]
    if lacking:
        raise ValueError(
            f'{where}: ann_file must be COCO JSON with lists of images, annotations and '
            f'categories, but "{path}" lacks {", ".join(lacking)}. Convert it to COCO form.'
        )
    return content


def _check_categories(
    faults: _Faults, categories: list[dict], classes: Sequence[str] | None
) -> None:
    faults.refuse(
        'category ids must differ', _repeated(categories), 'Give each category its own id.'
    )
    names = [str(category.get('name')) for category in categories]
    if classes is None or [name for name in names if name in classes] == list(classes):
        return
    received = ', '.join(map(str, classes))
    raise ValueError(
        f'{faults.where}: metainfo.classes must name categories of the annotation file '
        f'({", ".join(names)}), each once and in the order of the file, which is that of the '
        f'labels in mmdet, but got {received}. Correct the names: mmdet would silently train on '
        'wrong labels, or on images without objects.'
    )


def _count(tally: Counter, box: Box, part: Box | None) -> bool:
    """Whether a part of the box is kept."""
    if part is None:
        tally['boxes without a pixel in the image left out'] += 1
    elif part is not box:
        tally['boxes clipped to the image'] += 1
    return part is not None


def _is_id(value: Any) -> bool:
    return isinstance(value, int | str)


def _is_size(image: Mapping) -> bool:
    sides = image.get('width'), image.get('height')
    return all(isinstance(side, int | float) and 0 < side < math.inf for side in sides)


def _is_annotation(annotation: dict) -> bool:
    box, area = annotation.get('bbox'), annotation.get('area')
    try:
        return (
            _is_id(annotation.get('id'))
            and _is_id(annotation.get('image_id'))
            and _is_id(annotation.get('category_id'))
            and len(box) == 4  # type: ignore[arg-type]
            and math.isfinite(sum(box) + area)  # type: ignore[arg-type, operator]
        )
    except TypeError:
        return False


def _repeated(items: list[dict]) -> list[Any]:
    ids = [item.get('id') for item in items]
    return (
        [key for key, count in Counter(ids).items() if count > 1]
        if len(set(ids)) < len(ids)
        else []
    )


def _few(names: Iterable[Any]) -> str:
    names = list(names)
    return ', '.join(map(str, names[:5])) + (', ...' if len(names) > 5 else '')
