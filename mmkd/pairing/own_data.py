"""A folder with images and boxes of one's own: its parts, its classes."""

import itertools
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mmkd.config.names import first_of
from mmkd.datasets.part_names import part_of
from mmkd.datasets.voc_to_coco import write_coco
from mmkd.pairing.image_folders import check_shared, image_folder

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
        notes: what was left out, or is worth a line.
    """

    root: Path
    classes: tuple[str, ...]
    parts: dict[str, Part]
    notes: tuple[str, ...] = ()


def find_own_data(root: Path, classes: Sequence[str] | None) -> OwnData:
    """Find the parts of a data set in COCO form, or make them of one in VOC form.

    Args:
        root: has ``annotations/*.json`` (or ``*.json``) and images in any folder; or, in VOC
            form, ``JPEGImages``, ``Annotations`` and ``ImageSets/Main``: then the JSON files are
            written as ``mmkd data voc2coco`` does.
        classes: their names, in order. None for all categories of the training part, in the
            order of its file: so mmdet counts labels, whatever their ids.

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
    notes: list[str] = []
    chosen = {split: _choose(root, split, files, notes) for split in _SPLITS}
    for split in ('train', 'val'):
        if chosen[split] is None:
            raise ValueError(
                f'--data needs a JSON file for {split}, with "{split}" in its name, but "{root}" '
                f'has {first_of([f.name for f in files])}. Rename one, or split one by '
                f'"mmkd data split {shlex.quote(str(files[0]))} --shares train=0.8 val=0.2".'
            )
    read = {split: (file, _read(file)) for split, file in chosen.items() if file is not None}
    found = {
        split: image_folder(root, split, file, content['images'])
        for split, (file, content) in read.items()
    }
    for one, other in itertools.combinations(read, 2):
        if found[one].folder == found[other].folder:
            rivals = found[one].rivals or found[other].rivals
            notes += check_shared(found[one].folder, rivals, read[one], read[other])
    parts = {
        split: Part(file.relative_to(root).as_posix(), _prefix(root, found[split].folder))
        for split, (file, _) in read.items()
    }
    listed = read['train'][1].get('categories') or []
    categories = [item['name'] for item in listed if 'name' in item]
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
    return OwnData(root, tuple(classes or categories), parts, tuple(notes))


def _json_files(root: Path) -> list[Path]:
    return sorted(root.glob('annotations/*.json')) or sorted(root.glob('*.json'))


def _choose(root: Path, split: str, files: Sequence[Path], notes: list[str]) -> Path | None:
    """The file of a part; None where there is none. One for testing may be left out, by a note."""
    found = [f for f in files if any(word in f.stem.lower() for word in _SPLITS[split])]
    if split == 'val':  # not trainval, test-dev
        found = [f for f in found if 'train' not in f.stem.lower()]
        found = [f for f in found if 'val' in f.stem.lower() or 'test' not in f.stem.lower()]
    exact = [f for f in found if f.stem.lower() in _SPLITS[split]]
    boxes = [f for f in found if f.stem.lower().startswith('instances_')]
    named = [f for f in found if part_of(f.stem) == split]
    chosen = next((some[0] for some in (exact, boxes, named, found) if len(some) == 1), None)
    if chosen is None or split == 'test':
        filled = [f for f in found if _has_boxes(f)]
        if chosen not in filled:
            chosen = filled[0] if len(filled) == 1 else None
    if chosen is not None or not found:
        return chosen
    names = ', '.join(f.name for f in found)
    if split != 'test':
        raise ValueError(
            f'--data needs one JSON file for {split}, but "{root}" has {names}. Name the one that '
            f'is meant {split}.json.'
        )
    why = 'no boxes to test by' if not filled else 'more than one that may be for testing'
    notes.append(f'{names}: {why}, so the images for validation are tested on')
    return None


def _has_boxes(file: Path) -> bool:
    try:
        content = json.loads(file.read_bytes())
    except (ValueError, OSError):
        return False
    found = content.get('annotations') if isinstance(content, dict) else None
    return isinstance(found, list) and any(isinstance(a, dict) and 'bbox' in a for a in found)


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except ValueError as error:
        raise ValueError(f'{file} must be JSON, but {error}. Correct the file.') from None
    if not isinstance(content, dict) or not isinstance(content.get('images'), list):
        raise ValueError(
            f'{file} must be in COCO form, with "images", "annotations" and "categories", but is '
            'not. Correct the file, or name another folder.'
        )
    return content


def _prefix(root: Path, folder: Path) -> str:
    found = folder.relative_to(root).as_posix()
    return '' if found == '.' else f'{found}/'
