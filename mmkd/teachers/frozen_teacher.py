"""The teacher: a detector that only looks, through its own preprocessing."""

from collections.abc import Iterable
from typing import Any

import torch
from mmengine.model import BaseModel
from torch import Tensor

from mmkd.datasets.data_samples import of_input, rolled
from mmkd.teachers.input_translation import InputTranslation
from mmkd.teachers.lean_teacher import LeanTeacher


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
        inputs, data_samples = self.view(inputs, data_samples)
        if self.features is not None:
            return self.features(inputs)
        return self.model(inputs, data_samples, mode='tensor')

    def view(self, inputs: Tensor, data_samples: Any = None) -> tuple[Tensor, Any]:
        """The student's batch (B, C, H, W) and its samples as the teacher takes them."""
        if self.translation is not None:
            inputs = self.translation(inputs, data_samples)
        return self.lean.layout(inputs), of_input(data_samples, inputs)

    def __deepcopy__(self, memo: dict[int, Any]) -> 'FrozenTeacher':
        return self


def _roll(inputs: Tensor, data_samples: Any) -> tuple[Tensor, Any]:
    """Each image in the place of the next one."""
    if len(inputs) < 2:
        raise ValueError(
            'shuffle_teacher shows the teacher another image of the batch, so each batch must have '
            'two or more per process, but one has a single image. Raise '
            'train_dataloader.batch_size, and set train_dataloader.drop_last=True if the last '
            'batch of an epoch is the single one.'
        )
    return inputs.roll(1, 0), rolled(data_samples)
