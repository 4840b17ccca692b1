"""The teacher: a detector that only looks, through its own preprocessing."""

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from mmdet.models.detectors import SingleStageDetector
from mmengine.model import BaseModel, ImgDataPreprocessor
from torch import Tensor

from mmkd.lean import LeanTeacher


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
        for name, preprocessor in (('student', student), ('teacher', teacher)):
            if not isinstance(preprocessor, ImgDataPreprocessor):
                raise TypeError(
                    f'the {name} must have an image data_preprocessor (DetDataPreprocessor or a '
                    f'subclass), so that the teacher sees its own normalisation, but it has '
                    f'{type(preprocessor).__name__}. Name one in its model config.'
                )
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
        mean_s, std_s = _mean_std(student)
        mean_t, std_t = _mean_std(teacher)
        self.swap = bool(student._channel_conversion) != bool(teacher._channel_conversion)
        if self.swap:
            mean_s, std_s = mean_s.flip(0), std_s.flip(0)
        self.scale = std_s / std_t  # (C, 1, 1), or of one channel for all
        self.shift = (mean_s - mean_t) / std_t
        self.identity = not self.swap and bool(
            torch.all(self.scale == 1) and torch.all(self.shift == 0)
        )
        self.same_padding = self.identity and student.pad_value == teacher.pad_value
        self.pad_value = float(teacher.pad_value)
        self.divisor = int(getattr(teacher, 'pad_size_divisor', 1))

    def __call__(self, inputs: Tensor, data_samples: Any = None) -> Tensor:
        """Translate ``inputs`` (B, C, H, W); ``data_samples`` tell which pixels are padding."""
        outputs = inputs.repeat(1, 3, 1, 1) if self.grey and inputs.shape[1] == 1 else inputs
        if self.swap:
            outputs = outputs.flip(1)
        if not self.identity:
            scale, shift = (t.to(outputs.device, outputs.dtype) for t in (self.scale, self.shift))
            outputs = torch.addcmul(shift, outputs, scale)
        if not self.same_padding and isinstance(data_samples, list | tuple):
            for i, sample in enumerate(data_samples):
                height, width = sample.metainfo.get('img_shape', inputs.shape[-2:])[:2]
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


def _mean_std(preprocessor: ImgDataPreprocessor) -> tuple[Tensor, Tensor]:
    if not preprocessor._enable_normalize:
        return torch.zeros(1, 1, 1), torch.ones(1, 1, 1)
    return preprocessor.mean.cpu(), preprocessor.std.cpu()


class FrozenTeacher:
    """A teacher beside the student's module tree, not in it.

    It is no ``nn.Module`` on purpose: so it is in no ``state_dict``, no ``parameters()``, no EMA
    copy (copies share it) and no DDP wrapper.

    Args:
        model: the detector, with its weights. It is put wholly in eval mode, without grad.
        translation: makes the teacher's input of the student's batch. None passes it on.
        sources: what the teacher's recorders tap. Parts after the last that is tapped (neck, head)
            are not run.
        lean: how to run it for less. Defaults to None, as it is.
        shuffle: show it the image before instead of each image, the last instead of the first.
            Defaults to False.
    """

    def __init__(
        self,
        model: BaseModel,
        translation: InputTranslation | None = None,
        sources: Iterable[str] | None = None,
        lean: LeanTeacher | None = None,
        shuffle: bool = False,
    ) -> None:
        self.model = model.eval().requires_grad_(False)
        self.lean = lean or LeanTeacher(fold_bn=False, channels_last=False)
        self.translation = translation
        self.shuffle = shuffle
        sources = list(sources or ())
        self.lean.prepare(self.model, sources)
        parts = {source.split('.')[0] for source in sources}
        self.features = None
        if parts and parts <= {'backbone', 'neck'}:
            self.features = model.backbone if parts == {'backbone'} else model.extract_feat

    @torch.no_grad()
    def __call__(self, inputs: Tensor, data_samples: Any = None) -> Any:
        """Run the teacher's plain forward, never its loss, on the student's batch (B, C, H, W)."""
        if self.model.training:
            self.model.eval()
        if self.shuffle:
            inputs, data_samples = _roll(inputs, data_samples)
        if self.translation is not None:
            inputs = self.translation(inputs, data_samples)
        inputs = self.lean.layout(inputs)
        if self.features is not None:
            return self.features(inputs)
        if getattr(type(self.model), '_forward', None) is SingleStageDetector._forward:
            # mmdet's own calls ``bbox_head.forward``, which passes by the recorders' hooks.
            return self.model.bbox_head(self.model.extract_feat(inputs))
        return self.model(inputs, data_samples, mode='tensor')

    def __deepcopy__(self, memo: dict) -> 'FrozenTeacher':
        return self


def _roll(inputs: Tensor, data_samples: Any) -> tuple[Tensor, Any]:
    """Each image in the place of the next one. MMYOLO's dict of boxes stays: it has no padding."""
    if len(inputs) < 2:
        raise ValueError(
            'shuffle_teacher shows the teacher another image of the batch, so each batch must have '
            'two or more per process, but one has a single image. Raise '
            'train_dataloader.batch_size, and set train_dataloader.drop_last=True if the last '
            'batch of an epoch is the single one.'
        )
    if isinstance(data_samples, list | tuple):
        data_samples = [*data_samples[-1:], *data_samples[:-1]]
    return inputs.roll(1, 0), data_samples
