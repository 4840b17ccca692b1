"""The rules that annotations are held to; docs/data.md lists them."""

import json
import math
import os
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mmkd.config.names import first_of
from mmkd.datasets.kept_boxes import Box, inside, is_annotation, is_flag, is_id, kept_box
from mmkd.datasets.voc_files import flags_of_a_class, listed_images, read_voc
from mmkd.fileio.nearby import absent, hint

#: How a flag of an annotation says yes.
_SET = (1, '1')
_NOT_KEPT = 'boxes without a pixel in the image left out'
_CLIPPED = 'boxes clipped to the image'


class _Faults:
    """What one annotation file breaks: the first offender against the rules is an error."""

    def __init__(self, where: str, path: str) -> None:
        self.where = where
        self.path = path

    def refuse(self, rule: str, offenders: Iterable[Any], remedy: str) -> None:
        """Raise if there are ``offenders``: each is named up to the third, and all are counted."""
        found = list(offenders)
        if found:
            raise ValueError(
                f'{self.where}: {rule}, but in "{self.path}" {len(found)} '
                f'{"does" if len(found) == 1 else "do"} not: {first_of(found, 3)}. {remedy}'
            )

    def note(self, left_out: Counter) -> list[str]:
        """One line for the log, or none."""
        counts = ', '.join(f'{count} {what}' for what, count in left_out.items())
        return [f'{self.where}: of "{self.path}", {counts} (docs/data.md)'] if counts else []


def check_coco(
    where: str,
    path: str,
    classes: Sequence[str] | None,
    training: bool,
    measured: bool = False,
    min_size: float = 0,
) -> tuple[list[str], list[str]]:
    """Hold a COCO JSON file to the rules.

    Args:
        where: the loader's key, for messages.
        path: the file.
        classes: what the data set's labels mean. None takes the file's categories.
        training: whether it is trained on: the images must have a box left to learn from.
        measured: whether a metric compares with it: a box must be left to find. Defaults to False.
        min_size: images with a shorter side, in pixels, are not trained on. Defaults to 0.

    Returns:
        The images' file names, and for the log what is left out or clipped, and classes without a
        box.

    Raises:
        ValueError: the file breaks a rule.
    """
    content = _read_coco(where, path, needs_boxes=training or measured)
    faults = _Faults(where, path)
    images, annotations = content['images'], content.get('annotations', [])
    categories = content['categories']
    faults.refuse(
        'each image must have id, file_name, and a width and height above 0',
        (
            image.get('id', image)
            for image in images
            if not (image.get('id') is not None and image.get('file_name') and _is_size(image))
        ),
        'Correct the images.',
    )
    if not images:
        faults.refuse('a split must have images', ['"images" is empty'], 'Correct ann_file.')
    faults.refuse(
        'each category must have an id, and a name that is text',
        (c for c in categories if c.get('id') is None or not isinstance(c.get('name'), str)),
        'Correct the categories.',
    )
    for items in (images, categories):
        _check_ids(faults, [item['id'] for item in items])
    faults.refuse('image ids must differ', _repeated(images), 'Give each image its own id.')
    faults.refuse(
        'annotations must have id, image_id, category_id, area and a bbox of four numbers',
        (a.get('id', a) for a in annotations if not is_annotation(a)),
        'Correct the annotations.',
    )
    faults.refuse('annotation ids must differ', _repeated(annotations), 'Number them anew.')
    faults.refuse(
        'iscrowd and ignore must be 0 or 1, if they are given',
        (
            f'{value!r} (annotation {a["id"]})'
            for a in annotations
            for value in (a.get('iscrowd'), a.get('ignore'))
            if not is_flag(value)
        ),
        'Correct the annotations.',
    )
    names = {category['id']: category['name'] for category in categories}
    _check_categories(faults, categories, classes)

    sizes = {image['id']: (image['width'], image['height']) for image in images}
    faults.refuse(
        'the image_id of each annotation must be that of an image',
        (
            f'{_shown(a["image_id"])} (annotation {a["id"]})'
            for a in annotations
            if a['image_id'] not in sizes
        ),
        'Add the images, write the ids as the images have them, or take these annotations out.',
    )
    faults.refuse(
        f'each category_id must be one of the categories ({first_of(map(_shown, names))})',
        (
            f'{_shown(a["category_id"])} (annotation {a["id"]})'
            for a in annotations
            if a['category_id'] not in names
        ),
        'Add the categories, write the ids as they have them, or take these annotations out.',
    )
    wanted = {key for key, name in names.items() if classes is None or name in classes}
    tally, found = Counter[str](), Counter[Any]()
    for annotation in annotations:
        if annotation['category_id'] not in wanted:
            tally['annotations of categories that metainfo.classes does not name left out'] += 1
            continue
        if annotation.get('ignore') in _SET:
            tally['annotations to be ignored left out'] += 1
            continue
        size = sizes[annotation['image_id']]
        part = kept_box(annotation, size)
        if part is None:
            tally[_NOT_KEPT] += 1
            continue
        if isinstance(part, list):
            tally[_CLIPPED] += 1
        if annotation.get('iscrowd') not in _SET and (not training or min(size) >= min_size):
            found[annotation['category_id']] += 1
    by_name = Counter({names[key]: found[key] for key in names if key in wanted})
    notes = faults.note(tally) + check_found(where, path, by_name, training, measured)
    return [image['file_name'] for image in images], notes


def check_found(
    where: str, path: str, found: Counter[str], training: bool, measured: bool
) -> list[str]:
    """Check what a loss or a metric gets of a split: boxes that it ignores do not count.

    Args:
        where: the loader's key, for messages.
        path: the annotation file.
        found: how many boxes there are of each class, 0 included.
        training: whether a loss must get any.
        measured: whether a metric must.

    Returns:
        A line on the classes without a box, for the log.

    Raises:
        ValueError: there is no box.
    """
    rules = {
        'some box must be left to learn from': training,
        'some box must be left to find': measured,
    }
    for rule, holds in rules.items():
        if holds and not found.total():
            _Faults(where, path).refuse(
                rule,
                ['none is'],
                'Correct the boxes, and what makes them ignored: iscrowd, ignore, difficult.',
            )
    lacking = [name for name, count in found.items() if not count]
    if not lacking or not found.total():
        return []
    return [f'{where}: "{path}" has no box of {len(lacking)} classes: {first_of(lacking)}']


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
            f'"{path}" {fault} have none ({first_of(lost, 3)}). Correct ann_file or ann_subdir.'
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
            f'{len(lost)} do not: {first_of(lost)}. Put them there, or correct {key}.'
            f'{hint(folder, lost)}'
        )


def _read_coco(where: str, path: str, needs_boxes: bool) -> dict:
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
        or not isinstance(
            content.get(key, None if needs_boxes or key != 'annotations' else []), list
        )
        or not all(isinstance(item, dict) for item in content.get(key, []))
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
    names = [category['name'] for category in categories]
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
        tally[_NOT_KEPT] += 1
    elif part is not box:
        tally[_CLIPPED] += 1
    return part is not None


def _is_size(image: Mapping) -> bool:
    sides = image.get('width'), image.get('height')
    return all(isinstance(side, int | float) and 0 < side < math.inf for side in sides)


def _shown(key: Any) -> str:
    """An id as JSON has it: text in quotation marks."""
    return json.dumps(key)


def _check_ids(faults: _Faults, ids: list[Any]) -> None:
    faults.refuse(
        'ids of images and categories must be text, or whole numbers of 64 bits',
        (_shown(key) for key in ids if not is_id(key)),
        'Number them anew, in the annotations too.',
    )
    texts = [key for key in ids if isinstance(key, str)]
    if len(texts) < len(ids):
        faults.refuse(
            'ids of images, and those of categories, must be of one type',
            map(_shown, texts),
            'The others are numbers: write these as numbers too, in the annotations as well.',
        )


def _repeated(items: list[dict]) -> list[Any]:
    ids = [item.get('id') for item in items]
    return (
        [key for key, count in Counter(ids).items() if count > 1]
        if len(set(ids)) < len(ids)
        else []
    )
