"""The teacher: a detector that only looks, through its own preprocessing."""

import copy
from collections.abc import Iterable
from typing import Any

import torch
from mmengine.model import BaseModel
from torch import Tensor

from mmkd.datasets.data_samples import of_input, rolled
from mmkd.teachers.input_translation import InputTranslation
from mmkd.teachers.lean_teacher import EXACT, LeanTeacher
from mmkd.teachers.scaled_view import scaled_view


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
        scale: the size of the image that it sees, by that of the student's. Defaults to 1.0.
    """

    def __init__(
        self,
        model: BaseModel,
        translation: InputTranslation | None = None,
        sources: Iterable[str] | None = None,
        lean: LeanTeacher | None = None,
        shuffle: bool = False,
        scale: float = 1.0,
    ) -> None:
        self.model = model.eval().requires_grad_(False)
        self.lean = lean or LeanTeacher(**EXACT)
        self.translation = translation
        self.shuffle = shuffle
        self.scale = scale
        self.sources = list(sources or ())
        self.lean.prepare(self.model, self.sources)

    @property
    def features(self) -> Any:
        """What gives the features, where no more than them is tapped; else None."""
        parts = {source.split('.')[0] for source in self.sources}
        if not parts or not parts <= {'backbone', 'neck'}:
            return None
        return self.model.backbone if parts == {'backbone'} else self.model.extract_feat

    @property
    def parts(self) -> dict[str, 'FrozenTeacher']:
        """By name the teachers that look: this one."""
        return {'teacher': self}

    @property
    def given(self) -> dict[str, Any]:
        """By name the teachers of several that are known by their detections: none."""
        return {}

    @property
    def networks(self) -> 'FrozenTeacher':
        """This one."""
        return self

    @property
    def crops(self) -> list[tuple[str | None, int]]:
        """To a multiple of what its images are padded, if its maps may thus be larger."""
        if self.translation is None or self.scale != 1:
            return []
        return [(None, self.translation.divisor)]

    def in_form(self, lean: LeanTeacher, recorders: Iterable[Any]) -> BaseModel:
        """A copy of the model in another form, which feeds the same ``recorders``.

        Raises:
            ValueError: as :meth:`LeanTeacher.prepare`.
        """
        model = copy.deepcopy(self.model, {id(recorder): recorder for recorder in recorders})
        lean.prepare(model, self.sources)
        return model

    def swap(self, lean: LeanTeacher, model: BaseModel) -> LeanTeacher:
        """Exchange the inside of the model with that of another form; returns the form before.

        The model itself stays, as recorders hold it.
        """
        inside, other = dict(vars(self.model)), dict(vars(model))
        for place, found in ((self.model, other), (model, inside)):
            vars(place).clear()
            vars(place).update(found)
        before, self.lean = self.lean, lean
        return before

    @torch.no_grad()
    def __call__(self, inputs: Tensor, data_samples: Any = None) -> Any:
        """Run the teacher's plain forward, never its loss, on the student's batch (B, C, H, W)."""
        if self.model.training:
            self.model.eval()
        if self.shuffle:
            inputs, data_samples = _roll(inputs, data_samples)
        inputs, data_samples = self.view(inputs, data_samples)
        features = self.features
        if features is not None:
            return features(inputs)
        return self.model(inputs, data_samples, mode='tensor')

    def view(self, inputs: Tensor, data_samples: Any = None) -> tuple[Tensor, Any]:
        """The student's batch (B, C, H, W) and its samples as the teacher takes them."""
        if self.scale != 1:
            inputs, data_samples = scaled_view(inputs, data_samples, self.scale)
        if self.translation is not None:
            inputs = self.translation(inputs, data_samples)
        return self.lean.layout(inputs), of_input(data_samples, inputs)

    def __deepcopy__(self, memo: dict[int, Any]) -> 'FrozenTeacher':
        return self


def check_shuffled(images: int) -> None:
    """Check that there is another image to look at in a batch of so many.

    Raises:
        ValueError: there is none.
    """
    if images < 2:
        raise ValueError(
            'shuffle_teacher shows the teacher another image of the batch, so each batch must have '
            'two or more per process, but one has a single image. Raise '
            'train_dataloader.batch_size, and set train_dataloader.drop_last=True if the last '
            'batch of an epoch is the single one.'
        )


def _roll(inputs: Tensor, data_samples: Any) -> tuple[Tensor, Any]:
    """Each image in the place of the next one."""
    check_shuffled(len(inputs))
    return inputs.roll(1, 0), rolled(data_samples)
