"""A folder with images and boxes of one's own: its parts, its classes."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mmkd.config.names import first_of
from mmkd.datasets.voc_to_coco import write_coco

_SPLITS = {'train': ('train',), 'val': ('val', 'valid', 'validation', 'dev'), 'test': ('test',)}


class Part(NamedTuple):
    """A part of a data set, both paths seen from its root."""

    ann_file: str
    images: str


class OwnData(NamedTuple):
    """A data set in COCO form.

    Args:
        root: the folder.
        classes: their names, in the order of the labels.
        parts: by 'train', 'val' and, if there is one, 'test'.
    """

    root: Path
    classes: tuple[str, ...]
    parts: dict[str, Part]


def find_own_data(root: Path, classes: Sequence[str] | None) -> OwnData:
    """Find the parts of a data set in COCO form, or make them of one in VOC form.

    Args:
        root: has ``annotations/*.json`` (or ``*.json``) and images in any folder; or, in VOC
            form, ``JPEGImages``, ``Annotations`` and ``ImageSets/Main``: then the JSON files are
            written as ``mmkd data voc2coco`` does.
        classes: their names, in order. None for all categories of the training part, by id.

    Raises:
        FileNotFoundError: there is no such folder, no file of boxes, or none of its images.
        ValueError: no part for training or validation, several for one, a class that is no
            category, or VOC form without classes.
    """
    if not root.is_dir():
        raise FileNotFoundError(f'--data must be a folder, but there is no "{root}".')
    files = _json_files(root)
    if not files and (root / 'ImageSets/Main').is_dir():
        if not classes:
            raise ValueError(
                f'data in VOC form need --classes in the order of the labels, but "{root}" is of '
                'that form and got none. Name them.'
            )
        lists = [s for s in _SPLITS if (root / f'ImageSets/Main/{s}.txt').is_file()]
        if not {'train', 'val'} <= set(lists):
            raise ValueError(
                f'data in VOC form must have ImageSets/Main/train.txt and val.txt, but "{root}" '
                f'has {", ".join(lists) or "neither"}. Write the lists.'
            )
        write_coco(root, classes, lists, False, lambda note: None)
        files = _json_files(root)
    if not files:
        raise FileNotFoundError(
            f'--data must have annotations/train.json and val.json (COCO form) or ImageSets/Main '
            f'(VOC form), but "{root}" has neither. See docs/your_own_data.md.'
        )
    chosen = {split: _choose(root, split, files) for split in _SPLITS}
    for split in ('train', 'val'):
        if chosen[split] is None:
            raise ValueError(
                f'--data needs a JSON file for {split}, with "{split}" in its name, but "{root}" '
                f'has {first_of([f.name for f in files])}. Rename one, or split one by '
                f'"mmkd data split {files[0]} --shares train=0.8 val=0.2".'
            )
    parts, categories = {}, []
    for split, file in chosen.items():
        if file is None:
            continue
        content = _read(file)
        if split == 'train':
            ordered = sorted(content.get('categories', []), key=lambda item: item['id'])
            categories = [item['name'] for item in ordered]
        parts[split] = Part(file.relative_to(root).as_posix(), _images(root, split, file, content))
    unknown = [name for name in classes or () if name not in categories]
    if unknown:
        raise ValueError(
            f'--classes must be categories of {parts["train"].ann_file}, which are '
            f'{first_of(categories)}, but got {first_of(unknown)}. Correct the names.'
        )
    ordered = [name for name in categories if name in (classes or ())]
    if classes and list(classes) != ordered:  # the labels count so, whatever their names
        raise ValueError(
            f'--classes must be in the order of the categories of {parts["train"].ann_file}, each '
            f'once, but got {" ".join(classes)}. Take --classes {" ".join(ordered)}.'
        )
    return OwnData(root, tuple(classes or categories), parts)


def _json_files(root: Path) -> list[Path]:
    return sorted(root.glob('annotations/*.json')) or sorted(root.glob('*.json'))


def _choose(root: Path, split: str, files: Sequence[Path]) -> Path | None:
    found = [f for f in files if any(word in f.stem.lower() for word in _SPLITS[split])]
    if split == 'val':
        found = [f for f in found if 'train' not in f.stem.lower()]  # trainval
    exact = [f for f in found if f.stem.lower() in _SPLITS[split]]
    boxes = [f for f in found if f.stem.lower().startswith('instances_')]
    for some in (exact, boxes, found):
        if len(some) == 1:
            return some[0]
    if found:
        raise ValueError(
            f'--data needs one JSON file for {split}, but "{root}" has '
            f'{", ".join(f.name for f in found)}. Name the one that is meant {split}.json.'
        )
    return None


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text())
    except ValueError as error:
        raise ValueError(f'{file} must be JSON, but {error}. Correct the file.') from None
    if not isinstance(content, dict) or not isinstance(content.get('images'), list):
        raise ValueError(
            f'{file} must be in COCO form, with "images", "annotations" and "categories", but is '
            'not. Correct the file, or name another folder.'
        )
    return content


def _images(root: Path, split: str, file: Path, content: dict[str, Any]) -> str:
    """The folder from which the names of a part's images count."""
    names = [str(image.get('file_name', '')) for image in content['images'][:3]]
    folders = [root, *(p for p in sorted(root.glob('*')) if p.is_dir())]
    folders += [p for top in folders[1:] for p in sorted(top.glob('*')) if p.is_dir()]
    words = _SPLITS[split]
    folders.sort(key=lambda p: not any(word in p.name.lower() for word in words))
    for folder in folders:
        if names and all((folder / name).is_file() for name in names):
            found = folder.relative_to(root).as_posix()
            return '' if found == '.' else f'{found}/'
    raise FileNotFoundError(
        f'the images of {file} must lie in "{root}" or a folder in it, but none has '
        f'{first_of(names)}. Put or link them there.'
    )
