"""COCO JSON for a data set in VOC form, so that both evaluators can be used on it."""

import json
import os
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mmdet.datasets import XMLDataset

from mmkd.datasets.split import check_images
from mmkd.datasets.voc_annotations import check_voc
from mmkd.datasets.voc_files import VocImages, listed_images
from mmkd.fileio.atomic_writes import write_atomic


def voc_to_coco(root: Path, split: str, classes: tuple[str, ...]) -> tuple[dict[str, Any], int]:
    """COCO content of one split, and how many boxes without an area were left out.

    Raises:
        FileNotFoundError, ValueError: a file is missing, or breaks a rule of docs/data.md.
    """
    listed = check_voc(
        split,
        str(root / f'ImageSets/Main/{split}.txt'),
        str(root / 'Annotations'),
        classes,
    )
    folder = str(root / 'JPEGImages')
    find = VocImages().find
    check_images(
        split, folder, [find(folder, f'{name}.jpg') for name in listed.names], f'{split}.txt'
    )
    dataset = XMLDataset(
        data_root=f'{root}/',
        ann_file=f'ImageSets/Main/{split}.txt',
        data_prefix=dict(sub_data_root=''),
        metainfo=dict(classes=classes),
        test_mode=True,  # keeps images without objects
        pipeline=[],
    )
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    empty = 0
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        images.append(
            dict(
                id=index + 1,
                file_name=os.path.relpath(info['img_path'], root / 'JPEGImages'),
                height=info['height'],
                width=info['width'],
            )
        )
        for instance in info['instances']:
            x1, y1, x2, y2 = instance['bbox']
            if x2 <= x1 or y2 <= y1:
                empty += 1
                continue
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=index + 1,
                    category_id=instance['bbox_label'] + 1,
                    bbox=[x1, y1, x2 - x1, y2 - y1],
                    area=(x2 - x1) * (y2 - y1),
                    iscrowd=int(instance['ignore_flag']),  # VOC's "difficult"
                )
            )
    categories = [dict(id=i + 1, name=name) for i, name in enumerate(classes)]
    return dict(images=images, annotations=annotations, categories=categories), empty


def check_splits(root: Path, splits: Sequence[str]) -> None:
    """Check that each split has a list of images.

    Raises:
        FileNotFoundError: one has none.
    """
    folder = root / 'ImageSets/Main'
    lost = [split for split in splits if not (folder / f'{split}.txt').is_file()]
    if lost:
        there = ', '.join(sorted(path.stem for path in folder.glob('*.txt'))) or 'none'
        raise FileNotFoundError(
            f'Each of --splits must have a list of images in "{folder}" (seen from {os.getcwd()}), '
            f'but there is none for {", ".join(lost)}; there are: {there}. '
            'Correct ROOT or --splits.'
        )


def check_classes(root: Path, splits: Sequence[str], classes: Sequence[str]) -> list[str]:
    """Compare the classes with the names of the objects.

    Returns:
        What may differ on purpose, for the log.

    Raises:
        ValueError: a class is named twice, or no object has any of the names.
    """
    twice = [name for name, times in Counter(classes).items() if times > 1]
    if twice:
        raise ValueError(f'--classes must name each class once, but got {", ".join(twice)} again.')
    names = {name for s in splits for name in listed_images(str(root / f'ImageSets/Main/{s}.txt'))}
    objects = Counter(
        name.text or ''
        for image in names
        for name in ET.parse(root / f'Annotations/{image}.xml').findall('object/name')
    )
    left = {name: times for name, times in objects.items() if name not in classes}
    if objects and len(left) == len(objects):
        raise ValueError(
            f'--classes must name objects of the annotations ({", ".join(sorted(objects))}), but '
            f'got {", ".join(classes)}, of which there is none. Correct the names.'
        )
    told = [f'{times} objects of {name} left out' for name, times in sorted(left.items())]
    lost = [name for name in classes if name not in objects] if objects else []
    return told + [f'no object of {name}' for name in lost]


def write_coco(
    root: Path,
    classes: Sequence[str],
    splits: Sequence[str],
    force: bool = False,
    tell: Callable[[str], object] = print,
) -> dict[Path, tuple[int, int, int]]:
    """Write ``annotations/SPLIT.json`` of each split; none if one of them cannot be made.

    Args:
        root: has ``JPEGImages``, ``Annotations`` and ``ImageSets/Main``.
        classes: in the order of the labels.
        splits: names of the lists in ``ImageSets/Main``.
        force: overwrite files that are there. Defaults to False.
        tell: gets what is left out, or is not there. Defaults to ``print``.

    Returns:
        dict: of each file the images, the boxes, and the boxes without an area, left out.

    Raises:
        FileExistsError: a file is there.
        FileNotFoundError, ValueError: a file is missing, or breaks a rule of docs/data.md.
    """
    out = {split: root / f'annotations/{split}.json' for split in splits}
    for path in out.values():
        if path.exists() and not force:
            raise FileExistsError(f'{path} must not exist yet, but it does; --force overwrites it.')
    check_splits(root, splits)
    contents = {split: voc_to_coco(root, split, tuple(classes)) for split in out}
    for note in check_classes(root, splits, classes):
        tell(note)
    held = {}
    for split, path in out.items():
        content, empty = contents[split]
        write_atomic(path, json.dumps(content).encode())
        held[path] = len(content['images']), len(content['annotations']), empty
    return held
