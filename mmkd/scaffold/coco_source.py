"""A data set in COCO form: a JSON file for all images, or one for each part."""

import contextlib
import copy
import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmkd.config.names import first_of
from mmkd.datasets.annotations import check_content, read_coco_file
from mmkd.datasets.kept_boxes import keep_in_coco
from mmkd.datasets.part_names import part_of
from mmkd.fileio.nearby import hint
from mmkd.scaffold.coco_parts import INFO
from mmkd.scaffold.labelled_images import Annotated, Files, LabelledImage, Source, told_sizes
from mmkd.scaffold.readable import told, unreadable


def coco_files(data: Path) -> list[Path]:
    """A COCO JSON file, or those in a folder and two levels below it but for our own parts."""
    if data.is_file():
        return [data] if data.suffix.lower() == '.json' else []
    found = [path for level in ('*', '*/*', '*/*/*') for path in sorted(data.glob(f'{level}.json'))]
    return [path for path in found if not path.name.startswith('.') and _is_coco(path)]


def _is_coco(path: Path) -> bool:
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, OSError):
        return False
    if not isinstance(content, dict) or content.get('info') == INFO:
        return False
    return {'images', 'categories', 'annotations'} <= set(content)


def read_coco(data: Path, images: Path | None = None) -> Source:
    """Read a JSON file, or those of a folder, whose names or folders say the part.

    What the rules of docs/data.md ask for and can be seen elsewhere is filled in: an image's size,
    the ids of annotations, an area, a box of a segmentation.

    Raises:
        FileNotFoundError: an image is missing.
        ValueError: a file breaks a rule, or several may be meant for one part.
    """
    files = coco_files(data)
    chosen = _chosen(data, files)
    contents = {part: _read(path) for part, path in chosen.items()}
    parts: dict[str, list[LabelledImage]] = {}
    notes, stored = [], []
    counts: Counter[str] = Counter()
    order: dict[str, None] = {}
    for part, content in contents.items():
        path = chosen[part]
        found, as_stored, left_out = _images_of(path, content, data, images, part)
        parts[part] = found
        notes += left_out
        stored.append(as_stored)
        counts.update(one.name for image in found for one in image.objects)
        categories = sorted(content['categories'], key=lambda item: item['id'])
        order.update(dict.fromkeys(category['name'] for category in categories))
    unused = [name for name in order if not counts[name]]
    if unused and len(unused) < len(order):
        notes.append(f'categories without an object are left out: {first_of(unused)}')
    classes = tuple(name for name in order if counts[name] or len(unused) == len(order))
    beside = [p.name for p in data.parent.glob('*.json') if p != data] if data.is_file() else []
    if part_of(data.stem) and beside:
        notes.append(
            f'{data.name} alone was read and split; name the folder to read {first_of(beside)} too'
        )
    return Source('COCO', classes, parts, notes, as_stored=any(stored))


def _chosen(data: Path, files: list[Path]) -> dict[str, Path]:
    """By part the file; 'all' where there is one, and it is not split."""
    if data.is_file() or len(files) == 1:
        return {'all': files[0]}
    found: dict[str, list[Path]] = {}
    for path in files:
        folders = path.relative_to(data).parts[:-1]
        named = [part_of(name) for name in (path.stem, *reversed(folders))]
        found.setdefault(next((part for part in named if part), 'other'), []).append(path)
    chosen = {}
    for part in ('train', 'val', 'test'):
        some = found.get(part, [])
        boxes = [path for path in some if path.stem.startswith('instances')] or some
        exact = [path for path in boxes if path.stem.lower() == part] or boxes
        if len(exact) > 1:
            raise ValueError(
                f'DATA must have one JSON file for {part}, but "{data}" has '
                f'{first_of([str(p.relative_to(data)) for p in exact])}. Name one file, which is '
                f'then split, or rename the one that is meant {part}.json.'
            )
        if exact:
            chosen[part] = exact[0]
    if 'train' not in chosen:
        others = [str(path.relative_to(data)) for path in files]
        raise ValueError(
            'DATA must have one JSON file, or one with "train" in its name, but '
            f'"{data}" has {first_of(others)}. Name one of them, which is then split.'
        )
    return chosen


def _read(path: Path) -> dict[str, Any]:
    content = copy.deepcopy(read_coco_file('DATA', str(path)))
    content.setdefault('annotations', [])
    for i, annotation in enumerate(content['annotations']):
        annotation['id'] = annotation.get('id', i + 1)
        if not annotation.get('bbox'):
            annotation['bbox'] = _box_of(annotation.get('segmentation'))
        box = annotation['bbox']
        if annotation.get('area') is None and isinstance(box, list) and len(box) == 4:
            with contextlib.suppress(TypeError):  # the rules tell it
                annotation['area'] = box[2] * box[3]
    return content


def _box_of(segmentation: Any) -> list[float] | None:
    """(x, y, width, height) of polygons, or of a mask in runs."""
    if isinstance(segmentation, dict):
        return _box_of_runs(segmentation)
    if not isinstance(segmentation, list):
        return None
    try:
        flat = [float(value) for polygon in segmentation for value in polygon]
    except (TypeError, ValueError):
        return None
    x, y = flat[::2], flat[1::2]
    return [min(x), min(y), max(x) - min(x), max(y) - min(y)] if x and y else None


def _box_of_runs(mask: dict[str, Any]) -> list[float] | None:
    from pycocotools import mask as runs

    try:
        height, width = map(int, mask['size'])
        if height < 1 or width < 1:  # by which pycocotools divides
            return None
        packed = mask if isinstance(mask['counts'], str) else runs.frPyObjects(mask, height, width)
        return [float(value) for value in runs.toBbox(packed)]
    except (KeyError, OverflowError, TypeError, ValueError):
        return None


def _images_of(
    file: Path, content: dict[str, Any], data: Path, images: Path | None, part: str
) -> tuple[list[LabelledImage], bool, list[str]]:
    folders = [images] if images is not None else [file.parent, *_above(file), data]
    folders = [folder for folder in folders if folder.is_dir()]
    files = Files(folders)
    names = [str(image.get('file_name') or '') for image in content['images']]
    paths = [files.find(name, part) if name else None for name in names]
    lost = [name for name, path in zip(names, paths, strict=True) if path is None]
    if lost:
        raise FileNotFoundError(
            f'each image of "{file}" must lie in "{folders[0]}" or a folder beside it, but of '
            f'{len(names)} {len(lost)} do not, or there are several of the name: {first_of(lost)}. '
            f'Put them there, or name their folder by --images.{hint(str(folders[0]), lost)}'
        )
    there = [path for path in paths if path is not None]
    broken = unreadable(there)
    left_out = told(broken, len(there))
    if broken:
        _leave_out(content, [path in broken for path in there])
        there = [path for path in there if path not in broken]
    declared = [_size(image) for image in content['images']]
    sizes, as_stored = told_sizes(there, declared)
    for image, size in zip(content['images'], sizes, strict=True):
        image['width'], image['height'] = size
    left_out += check_content('DATA', str(file), content, None).notes('DATA')
    keep_in_coco(content)
    kinds = {category['id']: category['name'] for category in content['categories']}
    by_path = {path: LabelledImage(path, size) for path, size in zip(there, sizes, strict=True)}
    by_id = {
        image['id']: by_path[path] for image, path in zip(content['images'], there, strict=True)
    }
    if len(by_path) < len(there):
        again = len(there) - len(by_path)
        left_out.append(
            f'"{file}" lists {again} {"image" if again == 1 else "images"} again under another '
            'id: what is annotated under each is joined'
        )
    for annotation in content['annotations']:
        x, y, w, h = annotation['bbox']
        one = Annotated(
            kinds[annotation['category_id']], (x, y, x + w, y + h), bool(annotation['iscrowd'])
        )
        by_id[annotation['image_id']].objects.append(one)
    return list(by_path.values()), as_stored, left_out


def _leave_out(content: dict[str, Any], which: Sequence[bool]) -> None:
    """Take images out of what a file holds, with their annotations."""
    images = content['images']
    ids = [image.get('id') for image, out in zip(images, which, strict=True) if out]
    content['images'] = [image for image, out in zip(images, which, strict=True) if not out]
    content['annotations'] = [a for a in content['annotations'] if a.get('image_id') not in ids]


def _above(file: Path) -> list[Path]:
    """The folder that holds ``annotations/`` and the images."""
    parent = Path(os.path.abspath(file)).parent
    return [parent.parent] if parent.name.lower().startswith(('ann', 'label', 'json')) else []


def _size(image: dict[str, Any]) -> tuple[float, float] | None:
    """What a file says; 0, as exporters write it that do not know it, says nothing."""
    width, height = image.get('width'), image.get('height')
    with contextlib.suppress(TypeError, ValueError):  # numbers as text
        width, height = float(width or 0), float(height or 0)
    return (width, height) if width and height else None
