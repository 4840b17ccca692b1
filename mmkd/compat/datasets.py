"""Patches of mmdet's data sets and of mmcv's image reading."""

import contextlib
import functools
import io
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import cv2

from mmkd.datasets.image_file import check_declared_size, check_depth
from mmkd.datasets.kept_boxes import keep_in_coco, keep_once, keep_valid_boxes
from mmkd.datasets.voc_files import VocImages, listed_images
from mmkd.errors import ImageError
from mmkd_onnx.image_file import check_whole

# The types of image that all transforms work on.
COMMON = ('uint8', 'float32')


def read_coco_files_of_any_encoding() -> None:
    """pycocotools reads in the encoding of the locale, and refuses a byte order mark.

    JSON in bytes says its encoding.
    """
    from pycocotools import coco

    def opened(path: Any, mode: str = 'r', *args: Any, **kwargs: Any) -> Any:
        return open(path, 'rb') if mode == 'r' else open(path, mode, *args, **kwargs)

    vars(coco)['open'] = opened


def read_voc_lists_and_suffixes() -> None:
    """mmdet takes a byte order mark and empty lines for names, and each VOC image for a .jpg."""
    with contextlib.redirect_stdout(io.StringIO()):  # mmdet prints that OneDL is not installed
        from mmdet.datasets import XMLDataset, xml_style

    parse_data_info, load_data_list = XMLDataset.parse_data_info, XMLDataset.load_data_list

    @functools.wraps(parse_data_info)
    def parse(self: Any, img_info: dict[str, Any]) -> Any:
        images = getattr(self, '_voc_images', None)  # not where a subclass lists images itself
        if images is not None:
            file_name = images.find(self.sub_data_root, img_info['file_name'])
            img_info = {**img_info, 'file_name': file_name}
        return parse_data_info(self, img_info)

    @functools.wraps(load_data_list)
    def load(self: Any) -> list[Any]:
        self._voc_images = VocImages()
        try:
            return load_data_list(self)
        finally:
            del self._voc_images

    XMLDataset.parse_data_info, XMLDataset.load_data_list = parse, load
    xml_style.list_from_file = listed_images


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
            original: Callable[..., Any] = original,
            keeps: tuple[Callable[..., Any], ...] = keeps,
            **kwargs: Any,
        ) -> dict[str, Any]:
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


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """mmdet says on import which optional packages are not installed."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        yield


def lengthen_short_palettes() -> None:
    """A drawing fails at the first object whose label is above the palette's length.

    Such palettes are those of the built-in data sets, which stay beside a config's own classes.
    """
    with _quietly():
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
    def load(self: Any, results: dict[str, Any]) -> dict[str, Any] | None:
        try:
            return transform(self, results)
        except (AssertionError, OSError, ValueError, cv2.error) as error:
            raise ImageError.of(results['img_path'], error) from error

    mmcv.imfrombytes, LoadImageFromFile.transform = imfrombytes, load


def check_loaded_images() -> None:
    """mmdet trusts the size that annotations give, and takes what is left of 16 bits in 8.

    Whichever transform loads the image sets ``ori_shape``, of mmdet or of the user. One that
    cannot work on an image of its channels or depth fails without its name.
    """
    from mmcv.transforms import BaseTransform

    original = BaseTransform.__call__

    @functools.wraps(original)
    def call(self: Any, results: Any) -> Any:
        loads = isinstance(results, dict) and 'ori_shape' not in results
        loads = loads and not hasattr(self, 'transforms')  # of several, each is asked itself
        try:
            outcome = original(self, results)
        except cv2.error as error:
            image = results.get('img') if isinstance(results, dict) else None
            if image is None or (image.shape[2:] == (3,) and image.dtype.name in COMMON):
                raise  # its arguments are at fault
            raise ImageError.in_transform(type(self).__name__, results, error) from error
        if loads and isinstance(outcome, dict) and 'ori_shape' in outcome:
            color_type = getattr(self, 'color_type', 'color')
            backend = getattr(self, 'imdecode_backend', 'cv2')
            check_declared_size(outcome, color_type, backend)
            check_depth(outcome, color_type, backend)
        return outcome

    BaseTransform.__call__ = call


def name_images_of_other_channels() -> None:
    """mmengine fails on an image with other channels without its name, or takes it for another."""
    from mmengine.model import ImgDataPreprocessor

    from mmkd.datasets.channels import check_batch

    original = ImgDataPreprocessor.forward

    @functools.wraps(original)
    def forward(self: Any, data: Any, training: bool = False) -> Any:
        if isinstance(data, dict) and isinstance(data.get('inputs'), list | tuple):
            check_batch(data['inputs'], data.get('data_samples'), self)
        return original(self, data, training)

    ImgDataPreprocessor.forward = forward
