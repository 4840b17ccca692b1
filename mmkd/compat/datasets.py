"""Patches of mmdet's data sets and of mmcv's image reading."""

import contextlib
import functools
import io
from collections.abc import Callable
from typing import Any

import cv2

from mmkd.datasets.image_file import check_declared_size, check_whole
from mmkd.datasets.kept_boxes import keep_in_coco, keep_once, keep_valid_boxes
from mmkd.datasets.voc_files import listed_images, voc_image
from mmkd.errors import ImageError


def read_voc_lists_and_suffixes() -> None:
    """mmdet takes a byte order mark and empty lines for names, and each VOC image for a .jpg."""
    with contextlib.redirect_stdout(io.StringIO()):  # mmdet prints that OneDL is not installed
        from mmdet.datasets import XMLDataset, xml_style

    original = XMLDataset.parse_data_info

    @functools.wraps(original)
    def parse(self: Any, img_info: dict) -> Any:
        file_name = voc_image(self.sub_data_root, img_info['file_name'])
        return original(self, {**img_info, 'file_name': file_name})

    xml_style.list_from_file, XMLDataset.parse_data_info = listed_images, parse


def hold_boxes_to_the_rules() -> None:
    """mmdet keeps VOC boxes without size or outside the image, and clips none before it resizes.

    ``CocoMetric`` reads its file for itself and keeps what ``CocoDataset`` leaves out; pycocotools
    takes annotation 0 for "not found", and "0" and null for what they are not. Both read through
    mmdet's ``COCO``.
    """
    with contextlib.redirect_stdout(io.StringIO()):  # mmdet prints that OneDL is not installed
        from mmdet.datasets import CocoDataset, XMLDataset
        from mmdet.datasets.api_wrappers import COCO

    for dataset, keeps in (
        (CocoDataset, (keep_valid_boxes,)),
        (XMLDataset, (keep_valid_boxes, keep_once)),
    ):
        original = dataset.parse_data_info

        @functools.wraps(original)
        def parse(
            self: Any,
            *args: Any,
            original: Callable = original,
            keeps: tuple[Callable, ...] = keeps,
            **kwargs: Any,
        ) -> dict:
            info = original(self, *args, **kwargs)
            for keep in keeps:
                info = keep(info)
            return info

        dataset.parse_data_info = parse

    index = COCO.createIndex

    @functools.wraps(index)
    def create_index(self: Any) -> None:
        keep_in_coco(self.dataset)
        index(self)

    load_categories = COCO.loadCats

    @functools.wraps(load_categories)
    def load_cats(self: Any, ids: Any = ()) -> Any:
        return load_categories(self, [ids] if isinstance(ids, str) else ids)  # not letter by letter

    COCO.createIndex, COCO.loadCats = create_index, load_cats


def lengthen_short_palettes() -> None:
    """A drawing fails at the first object whose label is above the palette's length.

    Such palettes are those of the built-in data sets, which stay beside a config's own classes.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        from mmdet.engine.hooks import visualization_hook
        from mmdet.visualization import local_visualizer, palette

    original = palette.get_palette

    @functools.wraps(original)
    def get_palette(palette: Any, num_classes: int) -> Any:
        if isinstance(palette, list) and len(palette) < num_classes:
            return [*palette, *original('random', num_classes)[len(palette) :]]
        return original(palette, num_classes)

    for module in (palette, local_visualizer, visualization_hook):
        if hasattr(module, 'get_palette'):
            module.get_palette = get_palette


def refuse_broken_images() -> None:
    """OpenCV may fill what a truncated JPEG lacks with grey; its errors do not name the file."""
    import mmcv
    from mmcv.transforms import LoadImageFromFile

    decode, transform = mmcv.imfrombytes, LoadImageFromFile.transform

    @functools.wraps(decode)
    def imfrombytes(content: bytes, *args: Any, **kwargs: Any) -> Any:
        check_whole(content)
        return decode(content, *args, **kwargs)

    @functools.wraps(transform)
    def load(self: Any, results: dict) -> dict | None:
        try:
            return transform(self, results)
        except (AssertionError, OSError, ValueError, cv2.error) as error:
            raise ImageError.of(results['img_path'], error) from error

    mmcv.imfrombytes, LoadImageFromFile.transform = imfrombytes, load


def compare_declared_sizes() -> None:
    """mmdet takes the size that annotations give for that of the image, whatever is in the file.

    Whichever transform loads the image sets ``ori_shape``, of mmdet or of the user.
    """
    from mmcv.transforms import BaseTransform

    original = BaseTransform.__call__

    @functools.wraps(original)
    def call(self: Any, results: Any) -> Any:
        loads = isinstance(results, dict) and 'ori_shape' not in results
        loads = loads and not hasattr(self, 'transforms')  # of several, each is asked itself
        outcome = original(self, results)
        if loads and isinstance(outcome, dict) and 'ori_shape' in outcome:
            color_type = getattr(self, 'color_type', 'color')
            backend = getattr(self, 'imdecode_backend', 'cv2')
            check_declared_size(outcome, color_type, backend)
        return outcome

    BaseTransform.__call__ = call
