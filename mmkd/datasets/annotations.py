"""The rules that COCO JSON is held to; docs/data.md lists them."""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmkd.config.names import first_of
from mmkd.datasets.kept_boxes import is_annotation, is_flag, is_id, kept_box
from mmkd.datasets.mask_checks import has_polygon
from mmkd.datasets.split import CLIPPED, NOT_KEPT, Faults, Split

#: How a flag of an annotation says yes.
_SET = (1, '1')


def check_coco(
    where: str,
    path: str,
    classes: Sequence[str] | None,
    min_size: float = 0,
) -> Split:
    """Hold a COCO JSON file to the rules.

    Args:
        where: the loader's key, for messages.
        path: the file.
        classes: what the data set's labels mean. None takes the file's categories.
        min_size: the boxes of images with a shorter side, in pixels, do not count. Defaults to 0.

    Raises:
        ValueError: the file breaks a rule.
    """
    return check_content(where, path, read_coco_file(where, path), classes, min_size)


def check_content(
    where: str,
    path: str,
    content: dict[str, Any],
    classes: Sequence[str] | None,
    min_size: float = 0,
) -> Split:
    """As :func:`check_coco`, of what a file holds."""
    faults = Faults(where, path)
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
    bare, polygons = [], True
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
            tally[NOT_KEPT] += 1
            continue
        if isinstance(part, list):
            tally[CLIPPED] += 1
        if not annotation.get('segmentation'):
            bare.append((names[annotation['category_id']], annotation['id']))
        elif annotation.get('iscrowd') not in _SET:
            polygons = polygons and has_polygon(annotation['segmentation'])
        if annotation.get('iscrowd') not in _SET and min(size) >= min_size:
            found[annotation['category_id']] += 1
    by_name = Counter({names[key]: found[key] for key in names if key in wanted})
    files = [image['file_name'] for image in images]
    return Split(path, files, by_name, tally, bare=bare, polygons=polygons)


def read_coco_file(where: str, path: str) -> dict[str, Any]:
    """What a COCO JSON file holds.

    Raises:
        ValueError: it is none.
    """
    try:
        content = json.loads(Path(path).read_bytes())  # which finds the encoding out
    except (ValueError, OSError) as error:
        raise ValueError(
            f'{where}: ann_file must be COCO JSON, but "{path}" cannot be read as JSON ({error}). '
            'Give the annotation file, not the images or a list.'
        ) from error
    lacking = [
        key
        for key in ('images', 'annotations', 'categories')
        if not isinstance(content, dict)
        # images for a server have no annotations
        or not isinstance(content.get(key, [] if key == 'annotations' else None), list)
        or not all(isinstance(item, dict) for item in content.get(key, []))
    ]
    if lacking:
        raise ValueError(
            f'{where}: ann_file must be COCO JSON with lists of images, annotations and '
            f'categories, but "{path}" lacks {", ".join(lacking)}. Convert it to COCO form.'
        )
    return content


def _check_categories(
    faults: Faults, categories: list[dict[str, Any]], classes: Sequence[str] | None
) -> None:
    faults.refuse(
        'category ids must differ', _repeated(categories), 'Give each category its own id.'
    )
    names = [category['name'] for category in categories]
    faults.refuse(
        'names of categories must differ',
        [name for name in classes or () if names.count(name) > 1],
        'Two of one name would be two labels: take the one without annotations out, or give both '
        'one id.',
    )
    if classes is None or [name for name in names if name in classes] == list(classes):
        return
    received = ', '.join(map(str, classes))
    raise ValueError(
        f'{faults.where}: metainfo.classes must name categories of the annotation file '
        f'({", ".join(names)}), each once and in the order of the file, which is that of the '
        f'labels in mmdet, but got {received}. Correct the names: mmdet would silently train on '
        'wrong labels, or on images without objects.'
    )


def _is_size(image: Mapping[str, Any]) -> bool:
    sides = image.get('width'), image.get('height')
    return all(isinstance(side, int | float) and 0 < side < math.inf for side in sides)


def _shown(key: Any) -> str:
    """An id as JSON has it: text in quotation marks."""
    return json.dumps(key)


def _check_ids(faults: Faults, ids: list[Any]) -> None:
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


def _repeated(items: list[dict[str, Any]]) -> list[Any]:
    ids = [item.get('id') for item in items]
    return (
        [key for key, count in Counter(ids).items() if count > 1]
        if len(set(ids)) < len(ids)
        else []
    )
