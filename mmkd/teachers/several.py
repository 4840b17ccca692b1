"""Several frozen teachers, which look at the same batch one after the other."""

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.model import BaseModel
from mmrazor.models.distillers import ConfigurableDistiller
from mmrazor.registry import MODELS
from torch import Tensor, nn

from mmkd.recorders.joined_recorder import OwnedRecorders
from mmkd.teachers.frozen_teacher import FrozenTeacher
from mmkd.teachers.given_detections import FileTeacher, GivenDetections


@MODELS.register_module()
class SeveralTeachersDistiller(ConfigurableDistiller):
    """MMRazor's distiller, whose recorders of the teacher's side belong to several teachers.

    A pair with a list of teachers takes it by itself: :mod:`mmkd.binding.several_teachers`.

    Args:
        owners (dict): by the name of a teacher's recorder the name of its teacher.
        kwargs: as for ``ConfigurableDistiller``.
    """

    def __init__(self, owners: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        built: Any = self.teacher_recorders  # type: ignore[has-type]
        self.teacher_recorders = OwnedRecorders(built.recorders, owners)


class SeveralModels(BaseModel):
    """The detectors of several teachers, by name; it is not run as a whole."""

    def __init__(self, models: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.models = nn.ModuleDict(models)

    def forward(self, *args: Any, **kwargs: Any) -> None:
        """Each of the models is run by itself."""
        raise NotImplementedError('run one of models')


class FrozenTeachers:
    """As :class:`FrozenTeacher`, of several.

    Args:
        parts: by name.
    """

    def __init__(
        self, model: SeveralModels, parts: Mapping[str, FrozenTeacher | FileTeacher]
    ) -> None:
        self.model = model.eval().requires_grad_(False)
        self.parts = dict(parts)

    @property
    def features(self) -> Any:
        """Not None where all teachers give features alone."""
        found = [part.features for part in self.parts.values()]
        return None if None in found else found

    @property
    def given(self) -> dict[str, FrozenTeacher | FileTeacher]:
        """By name the teachers that are known by their detections."""
        parts = self.parts.items()
        return {name: part for name, part in parts if isinstance(part.model, GivenDetections)}

    @property
    def networks(self) -> 'FrozenTeachers':
        """The others."""
        given = self.given
        return FrozenTeachers(
            self.model, {name: part for name, part in self.parts.items() if name not in given}
        )

    @property
    def crops(self) -> list[tuple[str | None, int]]:
        """By name of a teacher to a multiple of what its images are padded."""
        return [(name, crop[1]) for name, part in self.parts.items() for crop in part.crops]

    @torch.no_grad()
    def __call__(self, inputs: Tensor, data_samples: Any = None) -> None:
        """Run each teacher's plain forward on the student's batch (B, C, H, W)."""
        for part in self.parts.values():
            part(inputs, data_samples)

    def __deepcopy__(self, memo: dict[int, Any]) -> 'FrozenTeachers':
        return self
