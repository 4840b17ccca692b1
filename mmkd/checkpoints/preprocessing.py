"""What is done to the pixels of a batch before a detector looks: the one reader of mmengine's."""

from dataclasses import dataclass
from typing import Any

from mmengine.model import ImgDataPreprocessor
from torch import Tensor


@dataclass(frozen=True)
class Normalisation:
    """What is done to the pixels of an image, which are 0 to 255.

    Args:
        mean: what is subtracted, per channel. Defaults to nothing.
        std: what is divided by, per channel. Defaults to nothing.
        bgr_to_rgb: whether the channels are swapped before. None if not known.
    """

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    bgr_to_rgb: bool | None = False


@dataclass(frozen=True)
class Preprocessing:
    """What a detector's ``data_preprocessor`` does, by the names of its arguments.

    Args:
        mean: (C, 1, 1), what is subtracted, where the preprocessor is. None: not normalised.
        std: (C, 1, 1), what is divided by. None: not normalised.
        bgr_to_rgb: whether the channels are swapped before, in whichever direction.
        pad_size_divisor: of which height and width of a batch are made multiples.
        pad_value: of the padding, after normalisation.
    """

    mean: Tensor | None = None
    std: Tensor | None = None
    bgr_to_rgb: bool = False
    pad_size_divisor: int = 1
    pad_value: float = 0

    @classmethod
    def of(cls, preprocessor: Any) -> 'Preprocessing | None':
        """That of a model's ``data_preprocessor``; None where it is not of mmengine's kind.

        >>> Preprocessing.of(ImgDataPreprocessor(pad_size_divisor=32, rgb_to_bgr=True))
        Preprocessing(mean=None, std=None, bgr_to_rgb=True, pad_size_divisor=32, pad_value=0)
        """
        if not isinstance(preprocessor, ImgDataPreprocessor):
            return None
        own: Any = preprocessor
        normalises = own._enable_normalize
        return cls(
            own.mean if normalises else None,
            own.std if normalises else None,
            bool(own._channel_conversion),
            own.pad_size_divisor,
            own.pad_value,
        )

    @property
    def normalisation(self) -> Normalisation:
        """The part of it that weights rely on, as numbers."""
        if self.mean is None or self.std is None:
            return Normalisation(bgr_to_rgb=self.bgr_to_rgb)
        mean, std = (tuple(values.flatten().tolist()) for values in (self.mean, self.std))
        return Normalisation(mean, std, self.bgr_to_rgb)
