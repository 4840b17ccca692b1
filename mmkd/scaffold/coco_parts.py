"""The parts of a data set, written as COCO JSON."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmkd.fileio.atomic_writes import write_atomic
from mmkd.scaffold.draw_parts import Parts
from mmkd.scaffold.pictures import Picture, Source


def write_parts(source: Source, parts: Parts, out: Path) -> Path:
    """Write the parts as COCO JSON.

    Args:
        source: of the classes.
        parts: the pictures of each.
        out: gets ``annotations/PART.json``.

    Returns:
        The folder from which the names of the pictures count.
    """
    every = [picture.path for found in parts.pictures.values() for picture in found]
    root = Path(os.path.commonpath([os.path.abspath(path.parent) for path in every]))
    for part, pictures in parts.pictures.items():
        content = _coco(pictures, source.classes, root)
        write_atomic(out / f'annotations/{part}.json', json.dumps(content).encode())
    return root


def _coco(pictures: Sequence[Picture], classes: Sequence[str], root: Path) -> dict[str, Any]:
    labels = {name: i + 1 for i, name in enumerate(classes)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for i, picture in enumerate(pictures, 1):
        width, height = picture.size
        name = os.path.relpath(os.path.abspath(picture.path), root).replace(os.sep, '/')
        images.append(dict(id=i, file_name=name, width=width, height=height))
        for one in picture.objects:
            x1, y1, x2, y2 = (round(float(value), 2) for value in one.box)
            if one.name in labels:
                w, h = round(x2 - x1, 2), round(y2 - y1, 2)
                annotations.append(
                    dict(
                        id=len(annotations) + 1,
                        image_id=i,
                        category_id=labels[one.name],
                        bbox=[x1, y1, w, h],
                        area=round(w * h, 2),
                        iscrowd=int(one.crowd),
                    )
                )
    categories = [dict(id=label, name=name) for name, label in labels.items()]
    return dict(images=images, annotations=annotations, categories=categories)
