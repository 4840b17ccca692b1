"""Which boxes are kept, and how: one rule for the data sets, for the metrics and for the checks."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

Box = Sequence[float]

#: What ``iscrowd`` and ``ignore`` may be: numbers as text are no truth values of Python.
_FLAGS = {None: 0, 0: 0, 1: 1, '0': 0, '1': 1}


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


def keep_valid_boxes(data_info: dict[str, Any]) -> dict[str, Any]:
    """Clip the boxes of one image of an mmdet data set, and leave out what is not in the image."""
    kept = []
    for instance in data_info['instances']:
        box = inside(instance['bbox'], data_info['width'], data_info['height'])
        if box is not None:
            kept.append(instance if box is instance['bbox'] else {**instance, 'bbox': box})
    data_info['instances'] = kept
    return data_info


def keep_once(data_info: dict[str, Any]) -> dict[str, Any]:
    """Leave out what is annotated twice, with one name and one box: VOC's metric finds one of them.

    Of the two the one that is not to be ignored stays.
    """
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for instance in data_info['instances']:
        key = (instance['bbox_label'], *instance['bbox'])
        if key not in found or found[key]['ignore_flag'] > instance['ignore_flag']:
            found[key] = instance
    data_info['instances'] = list(found.values())
    return data_info


def is_id(value: Any) -> bool:
    """Whether numpy, by which pycocotools sorts ids, can hold it: text, or a whole 64-bit number.

    >>> [is_id(value) for value in (7, 7.0, 'a.jpg', True, None, 2**63, 0.5)]
    [True, True, True, False, False, False, False]
    """
    if isinstance(value, bool):
        return False
    if isinstance(value, float):
        return value.is_integer() and abs(value) <= 2**53
    return isinstance(value, str) or (isinstance(value, int) and -(2**63) <= value < 2**63)


def is_flag(value: Any) -> bool:
    """Whether it is plain what ``iscrowd`` or ``ignore`` mean."""
    return isinstance(value, str | int | float | None) and value in _FLAGS


def is_annotation(annotation: Mapping[str, Any]) -> bool:
    """Whether a COCO annotation has ids, a bbox of four finite numbers and a finite area."""
    box, area = annotation.get('bbox'), annotation.get('area')
    try:
        return (
            isinstance(annotation.get('id'), str | int | float)
            and is_id(annotation.get('image_id'))
            and is_id(annotation.get('category_id'))
            and len(box) == 4  # type: ignore[arg-type]
            and math.isfinite(sum(box) + area)  # type: ignore[arg-type, operator]
        )
    except TypeError:
        return False


def kept_box(annotation: Mapping[str, Any], size: tuple[float, float]) -> Box | None:
    """What is kept of a COCO annotation's box.

    Args:
        annotation: for which :func:`is_annotation` holds.
        size: (width, height) of its image in pixels.

    Returns:
        A tuple (x1, y1, x2, y2), a list if it was clipped to the image, or None.
    """
    x, y, width, height = annotation['bbox']
    if annotation['area'] <= 0 or width < 1 or height < 1:
        return None
    return inside((x, y, x + width, y + height), *size)


def keep_in_coco(content: dict[str, Any]) -> None:
    """Make COCO content what a data set and pycocotools understand alike, in place.

    Of the annotations those that are to be ignored, or whose box is not kept, are left out; boxes
    are clipped, ``iscrowd`` becomes 0 or 1, an area larger than the image that of the box, and
    their ids count from 1: to pycocotools 0 means "not found", and text is no id. Ids like 3.0
    become 3. What breaks the rules of :mod:`mmkd.datasets.annotations` stays as it is.
    """
    images = content.get('images', ())
    for items, keys in (
        (images, ('id',)),
        (content.get('categories', ()), ('id',)),
        (content.get('annotations', ()), ('image_id', 'category_id')),
    ):
        for item in items:
            for key in keys:
                if isinstance(item.get(key), float) and is_id(item[key]):
                    item[key] = int(item[key])
    sizes = {image['id']: (image.get('width'), image.get('height')) for image in images}
    kept: list[dict[str, Any]] = []
    for annotation in content.get('annotations', ()):
        flags = annotation.get('iscrowd'), annotation.get('ignore')
        size = sizes.get(annotation.get('image_id'))
        if size and None not in size and is_annotation(annotation) and all(map(is_flag, flags)):
            box = None if _FLAGS[flags[1]] else kept_box(annotation, size)
            if box is None:
                continue
            x1, y1, x2, y2 = box
            if isinstance(box, list):  # clipped
                annotation['bbox'] = [x1, y1, x2 - x1, y2 - y1]
            if annotation['area'] > size[0] * size[1]:
                annotation['area'] = (x2 - x1) * (y2 - y1)
            annotation['iscrowd'] = _FLAGS[flags[0]]
            annotation['ignore'] = 0
        annotation['id'] = len(kept) + 1
        kept.append(annotation)
    if 'annotations' in content:
        content['annotations'] = kept
