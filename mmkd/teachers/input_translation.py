"""The student's batch as the teacher's own preprocessing would have made it."""

from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import ImgDataPreprocessor
from torch import Tensor

from mmkd.checkpoints.preprocessing import Preprocessing
from mmkd.datasets.data_samples import metas_of


class InputTranslation:
    """Turn the student's normalised batch into what the teacher's own preprocessing gives.

    Both models see the same pixels, ``x_T = ((x_S * std_S + mean_S) - mean_T) / std_T`` per
    channel, with the channels swapped where one model reads RGB and the other BGR. Padding is
    set to the teacher's own padding value. Where the two agree, the batch is passed on as it is.
    A teacher of colour images sees a grey one as decoders give it: with three equal channels.

    Args:
        student: the preprocessor that made the batch.
        teacher: the preprocessor that the teacher was trained behind.
        channels: of student's and teacher's images. Defaults to None, the same.

    Raises:
        TypeError: one of them is no image preprocessor of mmengine's kind.
        ValueError: the teacher's channels cannot be made of the student's.
    """

    def __init__(
        self,
        student: ImgDataPreprocessor,
        teacher: ImgDataPreprocessor,
        channels: tuple[int, int] | None = None,
    ) -> None:
        both = []
        for name, preprocessor in (('student', student), ('teacher', teacher)):
            preprocessing = Preprocessing.of(preprocessor)
            if preprocessing is None:
                raise TypeError(
                    f'the {name} must have an image data_preprocessor (DetDataPreprocessor or a '
                    f'subclass), so that the teacher sees its own normalisation, but it has '
                    f'{type(preprocessor).__name__}. Name one in its model config.'
                )
            both.append(preprocessing)
        own, taught_by = channels or (3, 3)
        # Of other numbers it is not certain that they are those of images.
        if own != taught_by and {own, taught_by} <= {1, 3, 4} and (own, taught_by) != (1, 3):
            raise ValueError(
                f'the teacher must take images with as many channels as the student, or the '
                f"student's must have one, but the student takes {own} and the teacher "
                f'{taught_by}. Name another teacher, or build the student with '
                f'in_channels={taught_by} and load images with as many (color_type).'
            )
        self.grey = (own, taught_by) == (1, 3)
        made, wanted = both
        mean_s, std_s = _mean_std(made)
        mean_t, std_t = _mean_std(wanted)
        self.swap = made.bgr_to_rgb != wanted.bgr_to_rgb
        if self.swap:
            mean_s, std_s = mean_s.flip(0), std_s.flip(0)
        self.scale = std_s / std_t  # (C, 1, 1), or of one channel for all
        self.shift = (mean_s - mean_t) / std_t
        self.identity = not self.swap and bool(
            torch.all(self.scale == 1) and torch.all(self.shift == 0)
        )
        self.same_padding = self.identity and made.pad_value == wanted.pad_value
        self.pad_value = float(wanted.pad_value)
        self.divisor = int(wanted.pad_size_divisor)

    def __call__(self, inputs: Tensor, data_samples: Any = None) -> Tensor:
        """Translate ``inputs`` (B, C, H, W); ``data_samples`` tell which pixels are padding."""
        outputs = inputs.repeat(1, 3, 1, 1) if self.grey and inputs.shape[1] == 1 else inputs
        if self.swap:
            outputs = outputs.flip(1)
        if not self.identity:
            scale, shift = (t.to(outputs.device, outputs.dtype) for t in (self.scale, self.shift))
            outputs = torch.addcmul(shift, outputs, scale)
        if not self.same_padding:
            for i, meta in enumerate(metas_of(data_samples) or ()):
                height, width = meta.get('img_shape', inputs.shape[-2:])[:2]
                if (height, width) == tuple(inputs.shape[-2:]):
                    continue
                if outputs is inputs:
                    outputs = inputs.clone()
                outputs[i, :, height:] = self.pad_value
                outputs[i, :, :, width:] = self.pad_value
        bottom, right = (-size % self.divisor for size in outputs.shape[-2:])
        if bottom or right:
            outputs = F.pad(outputs, (0, right, 0, bottom), value=self.pad_value)
        return outputs


def _mean_std(of: Preprocessing) -> tuple[Tensor, Tensor]:
    if of.mean is None or of.std is None:
        return torch.zeros(1, 1, 1), torch.ones(1, 1, 1)
    return of.mean.cpu(), of.std.cpu()
