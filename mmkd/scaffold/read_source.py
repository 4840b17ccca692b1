"""A data set of one's own, whatever its form."""

from collections.abc import Callable
from pathlib import Path

from mmkd.scaffold.coco_source import coco_files, read_coco
from mmkd.scaffold.labelled_images import Source
from mmkd.scaffold.voc_source import read_voc_folder, xml_files
from mmkd.scaffold.yolo_labels import label_files
from mmkd.scaffold.yolo_source import read_yolo, yolo_file


def read_source(data: Path, images: Path | None = None) -> Source:
    """Read a data set in COCO, VOC or YOLO form; nothing in it is executed.

    Args:
        data: a COCO JSON file; a ``data.yaml``; or a folder with JSON files, with XML files, or
            with ``data.yaml`` or ``labels/*.txt``.
        images: where the images lie, if neither in the folder nor beside the annotations.

    Raises:
        FileNotFoundError: there is no such file or folder, no annotation, or no image.
        ValueError: an annotation breaks a rule; the message names it.
    """
    if not data.exists():
        raise FileNotFoundError(
            f'DATA must be a file or folder, but there is no "{data}" (seen from {Path.cwd()}). '
            'Correct the path.'
        )
    if images is not None and not images.is_dir():
        raise FileNotFoundError(f'--images must be a folder, but there is no "{images}".')
    for reads, read in _FORMS:
        if reads(data):
            return read(data, images)
    raise FileNotFoundError(
        'DATA must be a COCO JSON file, or a folder with such files, with XML files (VOC), or with '
        f'data.yaml or labels/*.txt (YOLO), but "{data}" has none. See docs/your_own_data.md.'
    )


def _is_yolo(data: Path) -> bool:
    return yolo_file(data) is not None


def _has_labels(data: Path) -> bool:
    return data.is_dir() and bool(label_files(data))


_FORMS: tuple[tuple[Callable[[Path], object], Callable[[Path, Path | None], Source]], ...] = (
    (_is_yolo, read_yolo),
    (coco_files, read_coco),
    (xml_files, read_voc_folder),
    (_has_labels, read_yolo),
)
