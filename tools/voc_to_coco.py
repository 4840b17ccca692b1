"""Write COCO JSON for a data set in VOC form, so that both evaluators can be used on it."""

import argparse
import json
import os
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

import mmkd  # noqa: F401  (first: it makes mmdet importable)

# isort: split
from mmdet.datasets import XMLDataset

from mmkd.datasets.annotations import check_images, check_voc
from mmkd.datasets.voc_files import VocImages, listed_images
from mmkd.fileio.atomic_writes import write_whole


def convert(root: Path, split: str, classes: tuple[str, ...]) -> tuple[dict, int]:
    """COCO content of one split, and how many boxes without an area were left out.

    Raises:
        FileNotFoundError, ValueError: a file is missing, or breaks a rule of docs/data.md.
    """
    names, _ = check_voc(
        split,
        str(root / f'ImageSets/Main/{split}.txt'),
        str(root / 'Annotations'),
        classes,
        training=False,
    )
    folder = str(root / 'JPEGImages')
    find = VocImages().find
    check_images(split, folder, [find(folder, f'{name}.jpg') for name in names], f'{split}.txt')
    dataset = XMLDataset(
        data_root=f'{root}/',
        ann_file=f'ImageSets/Main/{split}.txt',
        data_prefix=dict(sub_data_root=''),
        metainfo=dict(classes=classes),
        test_mode=True,  # keeps images without objects
        pipeline=[],
    )
    images: list[dict] = []
    annotations: list[dict] = []
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


def check_splits(root: Path, splits: list[str]) -> None:
    """Raises FileNotFoundError where a split has no list of images."""
    folder = root / 'ImageSets/Main'
    lost = [split for split in splits if not (folder / f'{split}.txt').is_file()]
    if lost:
        there = ', '.join(sorted(path.stem for path in folder.glob('*.txt'))) or 'none'
        raise FileNotFoundError(
            f'Each of --splits must have a list of images in "{folder}" (seen from {os.getcwd()}), '
            f'but there is none for {", ".join(lost)}; there are: {there}. '
            'Correct ROOT or --splits.'
        )


def check_classes(root: Path, splits: list[str], classes: list[str]) -> list[str]:
    """Compare the classes with the names of the objects; returns what may differ on purpose.

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


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('root', type=Path, help='has JPEGImages, Annotations, ImageSets/Main')
    parser.add_argument('--classes', nargs='+', required=True, help='in the order of the labels')
    parser.add_argument('--splits', nargs='+', default=['train', 'val', 'test'])
    parser.add_argument('--force', action='store_true', help='overwrite the JSON files')
    args = parser.parse_args(argv)
    out = {split: args.root / f'annotations/{split}.json' for split in args.splits}
    for path in out.values():
        if path.exists() and not args.force:
            raise SystemExit(f'{path} must not exist yet, but it does; --force overwrites it.')
    try:
        check_splits(args.root, args.splits)
        contents = {split: convert(args.root, split, tuple(args.classes)) for split in out}
        notes = check_classes(args.root, args.splits, args.classes)
    except (OSError, ValueError) as error:
        raise SystemExit(str(error)) from None
    for note in notes:
        print(f'warning: {note}', file=sys.stderr)
    for split, path in out.items():
        content, empty = contents[split]
        write_whole(path, json.dumps(content).encode())
        boxes = len(content['annotations'])
        print(f'{path}: {len(content["images"])} images, {boxes} boxes, {empty} empty left out')


if __name__ == '__main__':
    main()
