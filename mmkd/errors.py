"""Errors that are not about a config."""

from collections.abc import Mapping
from typing import Any


class NonFiniteError(FloatingPointError):
    """A loss term or a gradient is NaN or infinite."""


class ImageError(ValueError):
    """An image that cannot be trained on; the message names the file."""

    def __init__(self, message: str) -> None:
        # A loader's worker hands an error on with its traceback in front: the message is its end.
        super().__init__(message.rsplit(f'{type(self).__name__}: ', 1)[-1].strip())

    @classmethod
    def of(cls, path: str, cause: Exception) -> 'ImageError':
        """The error for a file that could not be read because of ``cause``."""
        return cls(
            f'each image must be a whole file that its decoder can read, but "{path}" is not '
            f'({" ".join(str(cause).split())}). Get the file again, or take it out of the '
            'images, and out of the annotations where they list it.'
        )

    @classmethod
    def in_transform(
        cls, transform: str, results: Mapping[str, Any], cause: Exception
    ) -> 'ImageError':
        """The error for an image that OpenCV cannot work on, because of ``cause``."""
        image, path = results['img'], results.get('img_path')
        return cls(
            f'{transform} must be able to work on each image, but "{path}" is {image.dtype} of '
            f'shape {image.shape} '
            f'({" ".join(str(cause).split())}). Take {transform} out of the pipeline, or load the '
            "images with color_type='color'."
        )
