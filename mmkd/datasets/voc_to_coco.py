"""COCO JSON for a data set in VOC form, so that both evaluators can be used on it."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmdet.datasets import XMLDataset

from mmkd.datasets.split import check_images
from mmkd.datasets.voc_annotations import check_voc
from mmkd.datasets.voc_files import VocImages
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


def write_coco(
    root: Path, classes: Sequence[str], splits: Sequence[str], force: bool = False
) -> dict[Path, tuple[int, int, int]]:
    """Write ``annotations/SPLIT.json`` of each split; none if one of them cannot be made.

    Args:
        root: has ``JPEGImages``, ``Annotations`` and ``ImageSets/Main``.
        classes: in the order of the labels.
        splits: names of the lists in ``ImageSets/Main``.
        force: overwrite files that are there. Defaults to False.

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
    contents = {split: voc_to_coco(root, split, tuple(classes)) for split in out}
    held = {}
    for split, path in out.items():
        content, empty = contents[split]
        write_atomic(path, json.dumps(content).encode())
        held[path] = len(content['images']), len(content['annotations']), empty
    return held
