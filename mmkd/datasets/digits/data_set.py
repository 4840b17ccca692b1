"""The digits as a data set, in COCO and in VOC form."""

import contextlib
import hashlib
import json
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mmkd.datasets.digits.drawing import (
    CLASSES,
    SPLITS,
    VERSION,
    DigitsImage,
    DigitsSettings,
    draw_images,
)
from mmkd.fileio.atomic_writes import atomic_folder

STAMP = 'digits.json'


def _coco(images: list[DigitsImage], canvas: int) -> dict[str, Any]:
    records: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, image in enumerate(images, 1):
        records.append(
            dict(id=image_id, file_name=f'{image.name}.jpg', width=canvas, height=canvas)
        )
        for (x1, y1, x2, y2), label in zip(
            image.boxes.tolist(), image.labels.tolist(), strict=True
        ):
            w, h = x2 - x1, y2 - y1
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=image_id,
                    category_id=label + 1,
                    bbox=[x1, y1, w, h],
                    area=w * h,
                    iscrowd=0,
                )
            )
    categories = [dict(id=i, name=name) for i, name in enumerate(CLASSES, 1)]
    return dict(images=records, annotations=annotations, categories=categories)


def _voc(image: DigitsImage, canvas: int) -> str:
    root = ET.Element('annotation')
    ET.SubElement(root, 'filename').text = f'{image.name}.jpg'
    size = ET.SubElement(root, 'size')
    for key, value in (('width', canvas), ('height', canvas), ('depth', 3)):
        ET.SubElement(size, key).text = str(value)
    for box, label in zip(image.boxes.tolist(), image.labels.tolist(), strict=True):
        item = ET.SubElement(root, 'object')
        ET.SubElement(item, 'name').text = CLASSES[label]
        ET.SubElement(item, 'difficult').text = '0'
        corners = ET.SubElement(item, 'bndbox')
        for key, value in zip(('xmin', 'ymin', 'xmax', 'ymax'), box, strict=True):
            ET.SubElement(corners, key).text = str(value + 1)  # mmdet's XMLDataset subtracts 1
    ET.indent(root)
    return ET.tostring(root, encoding='unicode') + '\n'


def is_made(root: str | Path, settings: DigitsSettings) -> bool:
    """Whether ``root`` holds the data set of these settings, complete."""
    with contextlib.suppress(OSError, ValueError):
        return json.loads((Path(root) / STAMP).read_text()) == _stamp(settings)
    return False


def _difference(root: Path, settings: DigitsSettings) -> str:
    try:
        there = json.loads((root / STAMP).read_text())
    except ValueError:
        return f'its {STAMP} is broken'
    return ', '.join(
        f'{key}={there.get(key)} (asked for {value})'
        for key, value in _stamp(settings).items()
        if there.get(key) != value
    )


def _stamp(settings: DigitsSettings) -> dict[str, Any]:
    return dict(version=VERSION, **asdict(settings))


def make_digits(
    root: str | Path,
    settings: DigitsSettings | None = None,
    force: bool = False,
    track: Callable[[Iterable[Any], int], Iterable[Any]] = lambda images, total: images,
) -> bool:
    """Write the data set in COCO and in VOC form, all of it or nothing.

    Args:
        root (str | Path): The data set's folder.
        settings (DigitsSettings, optional): Defaults to ``DigitsSettings()``.
        force (bool): Replace a digits data set of other settings. Defaults to False.
        track (Callable): Wraps ``(images, total)`` to show progress. Defaults to no display.

    Returns:
        bool: True if it was made, False if the same one was there already.

    Raises:
        FileExistsError: ``root`` holds something else.
    """
    root, settings = Path(root), settings or DigitsSettings()
    if is_made(root, settings):
        return False
    ours = (root / STAMP).is_file()
    if root.exists() and not ours and (not root.is_dir() or any(root.iterdir())):
        raise FileExistsError(
            f'{root} exists and is not a digits data set: it is left as it is. '
            'Write to another folder.'
        )
    if ours and not force:
        raise FileExistsError(
            f'{root} holds a digits data set of other settings: {_difference(root, settings)}. '
            'Write to another folder, or replace it with --force (force=True).'
        )
    with atomic_folder(root) as new:
        _write(new, settings, track)
    return True


def _write(root: Path, settings: DigitsSettings, track: Any) -> None:
    import cv2

    for folder in ('JPEGImages', 'Annotations', 'ImageSets/Main', 'annotations'):
        (root / folder).mkdir(parents=True, exist_ok=True)  # one folder where case is ignored
    quality = [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, 0x111111]
    digest = hashlib.sha256()

    def images() -> Iterator[tuple[str, DigitsImage]]:
        for split in SPLITS:
            for image in draw_images(split, settings):
                yield split, image

    done: dict[str, list[DigitsImage]] = {split: [] for split in SPLITS}
    for split, image in track(images(), settings.train + settings.val):
        if not cv2.imwrite(str(root / 'JPEGImages' / f'{image.name}.jpg'), image.pixels, quality):
            raise OSError(f'could not write {image.name}.jpg below {root}: is the disk full?')
        (root / 'Annotations' / f'{image.name}.xml').write_text(_voc(image, settings.canvas))
        digest.update(image.pixels.tobytes())
        done[split].append(image)
    for split, members in done.items():
        coco = json.dumps(_coco(members, settings.canvas))
        (root / 'annotations' / f'{split}.json').write_text(coco)
        names = ''.join(f'{image.name}\n' for image in members)
        (root / 'ImageSets' / 'Main' / f'{split}.txt').write_text(names)
    (root / 'classes.txt').write_text(''.join(f'{name}\n' for name in CLASSES))
    (root / 'pixels.sha256').write_text(digest.hexdigest() + '\n')
    (root / STAMP).write_text(json.dumps(_stamp(settings), indent=2) + '\n')
