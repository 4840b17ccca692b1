"""Arrays in place of image files: what the loader of a pipeline makes of such pixels."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mmkd.errors import ImageError

#: Flags of loaders for which a file of three channels and 8 bits stays as it is.
_TAKES_AS_IT_IS = ('color', 'color_ignore_orientation', 'unchanged')


def as_loaded(results: dict[str, Any], loader: Any) -> dict[str, Any]:
    """What ``loader`` would give for a file of these pixels.

    Args:
        results: has ``img``, an array (H, W) or (H, W, channels) in BGR order.
        loader: the transform of the pipeline that loads files.

    Raises:
        ImageError: the array is no image.
    """
    image = results['img']
    flag = getattr(loader, 'color_type', 'color')
    backend = getattr(loader, 'imdecode_backend', 'cv2')
    _check(image)
    if image.dtype == bool:
        image = image.astype(np.uint8) * 255
    if image.shape[2:] == (3,) and image.dtype != np.uint16:
        plain = flag in _TAKES_AS_IT_IS
    else:
        plain = flag == 'unchanged' and image.shape[2:] != (1,) and image.dtype.kind != 'f'
    if not plain:
        image = _decoded(image, flag, backend)
    if getattr(loader, 'to_float32', False) or image.dtype == np.float64:
        image = image.astype(np.float32)
    shape = image.shape[:2]
    return {**results, 'img': image, 'img_path': None, 'img_shape': shape, 'ori_shape': shape}


def _check(image: NDArray[Any]) -> None:
    told = f'but got {image.dtype} of shape {image.shape}'
    known = image.dtype in (np.uint8, np.uint16, bool) or image.dtype in (np.float32, np.float64)
    shaped = image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (1, 3, 4))
    if not known or not shaped or not image.size:
        raise ImageError(
            f'an image must be an array (H, W, 3) in BGR order of type uint8, {told}. Grey (H, W), '
            'alpha (H, W, 4) and uint16 are understood, too, and float32 from 0 to 255.'
        )
    values = image if image.dtype.kind == 'f' else image[:0]
    if values.size and not (values.min() >= 0 and (values.max() > 1 or values.max() == 0)):
        raise ImageError(
            'an image of floating-point numbers must have values from 0 to 255, but got '
            f'{image.min():g} to {image.max():g}. Bring them to that range.'
        )


def _decoded(image: NDArray[Any], flag: str | int, backend: str) -> NDArray[Any]:
    """Through a PNG, which keeps all pixels, and the loader's own decoder."""
    import mmcv

    if image.dtype.kind == 'f':
        image = image.clip(0, 255).round().astype(np.uint8)
    _, content = cv2.imencode('.png', image, [cv2.IMWRITE_PNG_COMPRESSION, 0])
    # Pillow would cut 16 bits off; others read no PNG.
    decoder = 'pillow' if backend == 'pillow' and image.dtype == np.uint8 else 'cv2'
    return mmcv.imfrombytes(content.tobytes(), flag, backend=decoder)
