"""What an image file must be to be trained on."""

import contextlib
import mmap
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from itertools import product
from logging import WARNING
from typing import Any

import cv2
from PIL import ExifTags, Image

from mmkd.errors import ImageError


def check_declared_size(results: Mapping[str, Any], color_type: str | int, backend: str) -> None:
    """Check that an image has the size that its annotations give, by which boxes are clipped.

    Where an EXIF orientation leaves the size as it is, nothing shows whether boxes were drawn on
    the image as it is stored or as viewers turn it: one image of that kind is named in the log.

    Args:
        results: what a data set gives and a transform has loaded: ``ori_shape`` (H, W) in pixels
            beside ``height`` and ``width``. Without one of them there is nothing to check.
        color_type: the loader's, see :func:`mmcv.imfrombytes`.
        backend: the loader's ``imdecode_backend``.

    Raises:
        ImageError: it has another one.
    """
    declared: tuple[Any, Any] = results.get('width'), results.get('height')
    shape, path = results.get('ori_shape'), results.get('img_path')
    if None in declared or shape is None:
        return
    decoded = tuple(shape[1::-1])
    if decoded == declared and _TOLD[0]:
        return
    color_type, orientation = _flag(color_type), _orientation(path)
    if decoded != declared:
        raise ImageError(
            f'the annotations must give the size of the decoded image, but for "{path}" they give '
            f'{_by(declared)} and it is {_by(decoded)}'
            f'{f", of EXIF orientation {orientation}" if orientation > 1 else ""}. '
            f'{_remedy(results, declared, decoded, orientation, color_type, backend)}'
        )
    size_tells = orientation > 4 and decoded[0] != decoded[1] and _gives_size(results)
    if orientation > 1 and not size_tells and not _TOLD[0]:
        _TOLD[0] = 1
        from mmengine.logging import print_log

        print_log(
            f'"{path}" has EXIF orientation {orientation}, and its size does not show whether its '
            'boxes were drawn on the image as it is stored or as viewers turn it. '
            f"color_type='{color_type}' loads it. If its boxes lie beside the objects, set "
            f"color_type='{_other(color_type)}' in LoadImageFromFile. (Said once in a run.)",
            'current',
            WARNING,
        )


def check_depth(results: Mapping[str, Any], color_type: str | int, backend: str) -> None:
    """Check that an image of 16 bits was not made one of 8 by cutting its values off.

    Pillow sets what is above 255 to 255. OpenCV keeps the upper 8 bits, which is right for values
    that fill the 16; of others, say of 12 bits, little is left: one of them is told in the log.

    Args:
        results: what a data set gives and a transform has loaded: ``img_path`` and ``img``.
        color_type: the loader's, see :func:`mmcv.imfrombytes`.
        backend: the loader's ``imdecode_backend``.

    Raises:
        ImageError: Pillow cut its values off.
    """
    path, image = str(results.get('img_path')), results.get('img')
    if image is None or not path.lower().endswith(('.png', '.tif', '.tiff')):
        return
    color_type = _flag(color_type)
    few = backend == 'cv2' and not _TOLD[1] and image.max() < 16
    white = backend == 'pillow' and image.max() == 255
    if color_type == 'unchanged' or not (few or white):
        return
    try:
        with Image.open(path) as opened:
            grey = opened.mode.startswith('I;16')
    except Exception:  # not local, or not of Pillow's
        return
    stored = cv2.imread(path, cv2.IMREAD_UNCHANGED) if grey else None
    if stored is None or stored.max() <= 255 * white:
        return
    fault = (
        f'"{path}" has 16 bits and values up to {stored.max()}, of which color_type='
        f"'{color_type}' with imdecode_backend='{backend}' makes values up to {image.max():g}"
    )
    remedy = (
        "Set color_type='unchanged' in LoadImageFromFile, in_channels=1 in the backbone, and mean "
        'and std of one value each, or convert the images to 8 bits.'
    )
    if white:
        raise ImageError(
            f'each image must keep its values when it is loaded, but {fault}. {remedy}'
        )
    _TOLD[1] = 1
    from mmengine.logging import print_log

    print_log(f'{fault}. {remedy} (Said once in a run.)', 'current', WARNING)


# Memory that the loaders' forked workers share, so that a note comes once in a run.
_TOLD = mmap.mmap(-1, 2)  # of orientation, of depth


_KEPT = '_ignore_orientation'


def _by(size: Sequence[float]) -> str:
    return ' x '.join(map(str, size))


def _flag(color_type: str | int) -> str:
    from mmcv.image.io import imread_flags

    return next(
        (name for name, flag in imread_flags.items() if flag == color_type), str(color_type)
    )


def _other(color_type: str) -> str:
    if color_type.endswith(_KEPT):
        return color_type.removesuffix(_KEPT)
    return 'color' if color_type == 'unchanged' else color_type + _KEPT


def _orientation(path: Any) -> int:
    """The EXIF orientation of a local file, 1 to 8: 2 to 4 mirror or turn it, 5 to 8 swap sides."""
    try:
        with open(path, 'rb') as file:
            head = file.read(1 << 16)
            # The decoder of EXIF takes longer than all else here: only where there is some.
            if not (
                b'Exif' in head or b'eXIf' in head or head[:4] in (b'RIFF', b'II*\0', b'MM\0*')
            ):
                return 1
        with warnings.catch_warnings(), Image.open(path) as image:
            warnings.simplefilter('ignore')
            orientation = int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # not local, not of Pillow's, or broken metadata: decoders take it as it is
        return 1
    return orientation if 1 <= orientation <= 8 else 1


def _gives_size(results: Mapping[str, Any]) -> bool:
    """Whether the annotations themselves give the size; mmdet reads the image for an XML without.

    Such a size is that of the image turned by its EXIF orientation.
    """
    xml = results.get('xml_path')
    return xml is None or ET.parse(xml).getroot().find('size') is not None


def _remedy(
    results: Mapping[str, Any],
    declared: tuple[Any, ...],
    decoded: tuple[Any, ...],
    orientation: int,
    color_type: str,
    backend: str,
) -> str:
    if decoded != declared[::-1]:
        return (
            'Boxes belong to the size that is given: put the original image back, or scale its '
            'boxes and correct its width and height.'
        )
    if orientation < 5:
        return (
            'If its boxes lie right in the image as it is, correct its width and height; else '
            'turn the image.'
        )
    if not _gives_size(results):
        return f'Write the size that its boxes belong to into "{results["xml_path"]}".'
    import mmcv

    setting = f"color_type='{color_type}', imdecode_backend='{backend}'"
    with open(results['img_path'], 'rb') as file:
        content = file.read()
    for flag, decoder in product((_other(color_type), color_type), (backend, 'cv2', 'pillow')):
        image = None
        with contextlib.suppress(Exception):  # a decoder may be missing, or not know the flag
            image = mmcv.imfrombytes(content, flag, backend=decoder)
        if image is not None and image.shape[1::-1] == declared:
            change = f"color_type='{flag}'"
            change += f", imdecode_backend='{decoder}'" if decoder != backend else ''
            return (
                f'Its boxes were drawn on the image {_TURNED[flag.endswith(_KEPT)]}, but '
                f'{setting} gives the other: set {change} in LoadImageFromFile, for all images, '
                'or save the image anew without EXIF.'
            )
    return 'Save the image anew as its boxes lie, without EXIF.'


_TURNED = {False: 'turned by EXIF', True: 'as it is stored'}
