"""Data sets in the three forms, made on the spot."""

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

Objects = list[list[tuple[str, tuple[float, float, float, float]]]]


def scene(rng: np.random.Generator, width: int, height: int, boxes) -> np.ndarray:
    """An image unlike any other, with rectangles."""
    coarse = rng.integers(0, 200, (6, 8, 3), dtype=np.uint8)
    image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    for _, (x1, y1, x2, y2) in boxes:
        cv2.rectangle(image, (int(x1), int(y1)), (int(x2) - 1, int(y2) - 1), (250, 240, 230), -1)
    return image


def images(
    folder: Path,
    sizes: Sequence[tuple[int, int]],
    classes: Sequence[str] = ('ant', 'bee'),
    each: int = 2,
    share: tuple[float, float] = (0.2, 0.5),
    seed: int = 0,
) -> tuple[list[Path], Objects]:
    """Image files ``a000.jpg`` ..., and the objects in each, of all classes in turn."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    paths, objects = [], []
    for i, (width, height) in enumerate(sizes):
        found = []
        for j in range(each):
            w, h = (max(round(s * rng.uniform(*share)), 2) for s in (width, height))
            x, y = rng.integers(0, width - w + 1), rng.integers(0, height - h + 1)
            name = classes[(i * each + j) % len(classes)]
            found.append((name, (int(x), int(y), int(x) + w, int(y) + h)))
        path = folder / f'a{i:03d}.jpg'
        cv2.imwrite(str(path), scene(rng, width, height, found))
        paths.append(path)
        objects.append(found)
    return paths, objects


def write_coco(path: Path, images: Sequence[Path], objects: Objects, **own: object) -> Path:
    """A COCO JSON file; the images by their names alone."""
    names = sorted({name for found in objects for name, _ in found})
    annotations = [
        dict(id=0, image_id=i, category_id=names.index(name) + 1, iscrowd=0,
             bbox=[x1, y1, x2 - x1, y2 - y1], area=(x2 - x1) * (y2 - y1), **own)
        for i, found in enumerate(objects) for name, (x1, y1, x2, y2) in found
    ]  # fmt: skip
    for i, annotation in enumerate(annotations):
        annotation['id'] = i + 1
    content = dict(
        images=[dict(id=i, file_name=p.name, **_size(p)) for i, p in enumerate(images)],
        annotations=annotations,
        categories=[dict(id=i + 1, name=name) for i, name in enumerate(names)],
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def _size(path: Path) -> dict[str, int]:
    height, width = cv2.imread(str(path)).shape[:2]
    return dict(width=width, height=height)


def write_voc(folder: Path, images: Sequence[Path], objects: Objects) -> None:
    """An XML file for each image."""
    from xml.sax.saxutils import escape

    folder.mkdir(parents=True, exist_ok=True)
    for path, found in zip(images, objects, strict=True):
        height, width = cv2.imread(str(path)).shape[:2]
        items = ''.join(
            f'<object><name>{escape(name)}</name><bndbox><xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin>'
            f'<xmax>{x2 + 1}</xmax><ymax>{y2 + 1}</ymax></bndbox></object>'
            for name, (x1, y1, x2, y2) in found
        )
        (folder / f'{path.stem}.xml').write_text(
            f'<annotation><size><width>{width}</width><height>{height}</height></size>{items}'
            '</annotation>'
        )


def write_labels(
    folder: Path, images: Sequence[Path], objects: Objects, names: Sequence[str], polygons=False
) -> None:
    """A text file of labels for each image."""
    folder.mkdir(parents=True, exist_ok=True)
    for path, found in zip(images, objects, strict=True):
        height, width = cv2.imread(str(path)).shape[:2]
        lines = []
        for name, (x1, y1, x2, y2) in found:
            x1, x2, y1, y2 = x1 / width, x2 / width, y1 / height, y2 / height
            numbers = [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]
            if polygons:
                numbers = [x1, y1, x2, y1, x2, y2, x1, (y1 + y2) / 2, x1, y2]
            lines.append(f'{names.index(name)} {" ".join(f"{n:.6f}" for n in numbers)}')
        (folder / f'{path.stem}.txt').write_text('\n'.join(lines) + '\n')
