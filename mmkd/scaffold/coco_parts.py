"""The parts of a data set, written as COCO JSON."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmkd.fileio.atomic_writes import write_atomic
from mmkd.scaffold.draw_parts import Parts
from mmkd.scaffold.labelled_images import LabelledImage, Source

#: By which a file is known as one of these, where it lies in the folder of the data.
INFO = dict(description='a part of a data set, written by mmkd new')


def write_parts(source: Source, parts: Parts, out: Path) -> Path:
    """Write the parts as COCO JSON.

    Args:
        source: of the classes.
        parts: the images of each.
        out: gets ``annotations/PART.json``.

    Returns:
        The folder from which the names of the images count.
    """
    every = [image.path for found in parts.images.values() for image in found]
    root = Path(os.path.commonpath([os.path.abspath(path.parent) for path in every]))
    for part, found in parts.images.items():
        content = _coco(found, source.classes, root)
        write_atomic(out / f'annotations/{part}.json', json.dumps(content).encode())
    return root


def _coco(labelled: Sequence[LabelledImage], classes: Sequence[str], root: Path) -> dict[str, Any]:
    labels = {name: i + 1 for i, name in enumerate(classes)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for i, image in enumerate(labelled, 1):
        width, height = image.size
        name = os.path.relpath(os.path.abspath(image.path), root).replace(os.sep, '/')
        images.append(dict(id=i, file_name=name, width=width, height=height))
        for one in image.objects:
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
    return dict(info=INFO, images=images, annotations=annotations, categories=categories)
