"""Shared fixtures: small data sets made on the spot."""

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmdet.datasets import VOCDataset

import mmkd  # noqa: F401  (registers everything)

ROOT = Path(__file__).resolve().parents[1]
os.environ.setdefault('OMP_NUM_THREADS', '1')


def scene(rng: np.random.Generator, size: tuple[int, int], classes: int, boxes: int):
    """An image (H, W, 3) with filled rectangles, their boxes (x1, y1, x2, y2) and labels."""
    height, width = size
    image = rng.integers(0, 255, (height, width, 3), dtype=np.uint8) // 4
    found, labels = [], []
    for _ in range(boxes):
        w, h = rng.integers(width // 4, width // 2), rng.integers(height // 4, height // 2)
        x, y = rng.integers(0, width - w), rng.integers(0, height - h)
        label = int(rng.integers(classes))
        image[y : y + h, x : x + w] = 55 + 180 * (label + 1) // classes
        found.append((int(x), int(y), int(x + w), int(y + h)))
        labels.append(label)
    return image, found, labels


def write_voc(folder: Path, split: str, images: int, classes, seed: int = 0, boxes: int = 2):
    """One VOC-shaped folder: JPEGImages, Annotations, ImageSets/Main/<split>.txt."""
    rng = np.random.default_rng(seed)
    for part in ('JPEGImages', 'Annotations', 'ImageSets/Main'):
        (folder / part).mkdir(parents=True, exist_ok=True)
    names = [f'{split}{i:03d}' for i in range(images)]
    for name in names:
        image, found, labels = scene(rng, (120, 160), len(classes), boxes)
        cv2.imwrite(str(folder / f'JPEGImages/{name}.jpg'), image)
        objects = ''.join(
            f'<object><name>{classes[label]}</name><difficult>0</difficult><bndbox>'
            f'<xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin><xmax>{x2 + 1}</xmax><ymax>{y2 + 1}</ymax>'
            '</bndbox></object>'
            for (x1, y1, x2, y2), label in zip(found, labels, strict=True)
        )
        (folder / f'Annotations/{name}.xml').write_text(
            f'<annotation><filename>{name}.jpg</filename><size><width>160</width>'
            f'<height>120</height><depth>3</depth></size>{objects}</annotation>'
        )
    (folder / f'ImageSets/Main/{split}.txt').write_text('\n'.join(names) + '\n')


def write_coco(folder: Path, split: str, images: int, classes, seed: int = 0, boxes: int = 2):
    """COCO JSON annotations/<split>.json and its JPEGImages."""
    rng = np.random.default_rng(seed)
    (folder / 'annotations').mkdir(parents=True, exist_ok=True)
    (folder / 'JPEGImages').mkdir(exist_ok=True)
    records, annotations = [], []
    for i in range(images):
        image, found, labels = scene(rng, (120, 160), len(classes), boxes)
        name = f'{split}{i:03d}.jpg'
        cv2.imwrite(str(folder / 'JPEGImages' / name), image)
        records.append(dict(id=i + 1, file_name=name, height=120, width=160))
        for (x1, y1, x2, y2), label in zip(found, labels, strict=True):
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=i + 1,
                    category_id=label + 1,
                    bbox=[x1, y1, x2 - x1, y2 - y1],
                    area=(x2 - x1) * (y2 - y1),
                    iscrowd=0,
                )
            )
    categories = [dict(id=i + 1, name=name) for i, name in enumerate(classes)]
    path = folder / f'annotations/{split}.json'
    path.write_text(
        json.dumps(dict(images=records, annotations=annotations, categories=categories))
    )
    return path


@pytest.fixture(scope='session')
def voc_root(tmp_path_factory) -> str:
    """A VOCdevkit/ with VOC2007 and VOC2012: 4 + 4 images to train, 3 to test."""
    root = tmp_path_factory.mktemp('voc') / 'VOCdevkit'
    classes = VOCDataset.METAINFO['classes']
    write_voc(root / 'VOC2007', 'trainval', 4, classes, seed=1)
    write_voc(root / 'VOC2007', 'test', 3, classes, seed=2)
    write_voc(root / 'VOC2012', 'trainval', 4, classes, seed=3)
    return f'{root}/'
