"""Write COCO JSON for a data set in VOC form, so that both evaluators can be used on it."""

import argparse
import json
import os
from pathlib import Path

import mmkd  # noqa: F401  (first: it makes mmdet importable)

# isort: split
from mmdet.datasets import XMLDataset

from mmkd.datasets.split import check_images
from mmkd.datasets.voc_annotations import check_voc
from mmkd.datasets.voc_files import VocImages
from mmkd.fileio.atomic_writes import write_whole


def convert(root: Path, split: str, classes: tuple[str, ...]) -> tuple[dict, int]:
    """COCO content of one split, and how many boxes without an area were left out.

    Raises:
        FileNotFoundError, ValueError: a file is missing, or breaks a rule of docs/data.md.
    """
    listed = check_voc(
        split, str(root / f'ImageSets/Main/{split}.txt'), str(root / 'Annotations'), classes
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
        contents = {split: convert(args.root, split, tuple(args.classes)) for split in out}
    except (OSError, ValueError) as error:
        raise SystemExit(str(error)) from None
    for split, path in out.items():
        content, empty = contents[split]
        write_whole(path, json.dumps(content).encode())
        boxes = len(content['annotations'])
        print(f'{path}: {len(content["images"])} images, {boxes} boxes, {empty} empty left out')


if __name__ == '__main__':
    main()
