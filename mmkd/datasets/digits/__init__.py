"""A detection data set made on the spot from scikit-learn's real handwritten digits."""

from mmkd.datasets.digits.data_set import STAMP, is_made, make_digits
from mmkd.datasets.digits.drawing import (
    CLASSES,
    DigitsImage,
    DigitsSettings,
    draw_image,
    draw_images,
    split_digits,
)

__all__ = [
    'CLASSES',
    'STAMP',
    'DigitsImage',
    'DigitsSettings',
    'draw_image',
    'draw_images',
    'is_made',
    'make_digits',
    'split_digits',
]
