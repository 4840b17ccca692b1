"""Detections as COCO results, with the ids of the annotation file that lists the images."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmkd.predict.frames import Frame
from mmkd.predict.sources import Source
from mmkd_onnx import Detections


class CocoResults:
    """A list for ``COCO.loadRes``, each with the file and the class by name, too.

    Where a data set of the model's config has an annotation file, its ids are taken: those of
    categories, if it names all classes, and those of the images that it lists. Of several data sets
    the one that lists most of the images counts. Else categories count from 1 in the order of the
    labels, and images from 1 as they come.

    Args:
        classes: the names of the classes.
        datasets: configs of data sets. Defaults to none.
        sources: whose images will come. Defaults to none.
    """

    def __init__(
        self,
        classes: Sequence[str],
        datasets: Sequence[Mapping[str, Any]] = (),
        sources: Sequence[Source] = (),
    ) -> None:
        self.rows: list[dict[str, Any]] = []
        paths = {os.path.realpath(source.path) for source in sources}
        known_ids = [_ids(dataset) for dataset in datasets] or [({}, {})]
        categories, self._images = max(known_ids, key=lambda ids: len(paths & ids[1].keys()))
        known = all(name in categories for name in classes)
        self._categories = categories if known else {n: i for i, n in enumerate(classes, 1)}
        numbers = [number for number in self._images.values() if isinstance(number, int)]
        self._next = max(numbers, default=0) + 1

    def add(self, frame: Frame, found: Detections) -> None:
        """Add what was found in an image, be it nothing."""
        image_id = self._images.get(os.path.realpath(frame.source.path))
        if image_id is None or frame.number is not None:
            image_id, self._next = self._next, self._next + 1
        place: dict[str, Any] = dict(image_id=image_id, file_name=frame.source.name)
        if frame.number is not None:
            place['frame'] = frame.number
        for row, (box, score, name) in enumerate(
            zip(found.boxes.tolist(), found.scores.tolist(), found.names, strict=True)
        ):
            x1, y1, x2, y2 = box
            one = dict(
                place,
                category_id=self._categories.get(name, int(found.labels[row]) + 1),
                category_name=name,
                bbox=[x1, y1, x2 - x1, y2 - y1],
                score=score,
            )
            if found.masks is not None:
                one['segmentation'] = _encoded(found.masks[row])
            self.rows.append(one)

    def text(self) -> str:
        """The JSON."""
        return json.dumps(self.rows, allow_nan=False)


def _encoded(mask: Any) -> dict[str, Any]:
    from pycocotools import mask as coco_mask

    found = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {**found, 'counts': found['counts'].decode()}


def listed_at(dataset: Mapping[str, Any]) -> str:
    """The annotation file of a data set's config."""
    return os.path.join(str(dataset.get('data_root') or ''), str(dataset.get('ann_file') or ''))


def _ids(dataset: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The ids of a COCO annotation file: of categories by name, of images by path."""
    root = str(dataset.get('data_root') or '')
    path = listed_at(dataset)
    if not path.endswith('.json') or not os.path.isfile(path):
        return {}, {}
    folder = os.path.join(root, str((dataset.get('data_prefix') or {}).get('img') or ''))
    try:
        content = json.loads(Path(path).read_bytes())
        categories = {one['name']: one['id'] for one in content['categories']}
        images = {
            os.path.realpath(os.path.join(folder, one['file_name'])): one['id']
            for one in content['images']
        }
    except (KeyError, TypeError, ValueError):  # none of COCO: others are no fault here
        return {}, {}
    return categories, images
