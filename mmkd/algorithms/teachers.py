"""The teachers of a pair, from what its config says to what looks at a batch."""

from collections.abc import Mapping, Sequence
from logging import WARNING
from typing import Any

from mmengine.logging import print_log
from mmengine.model import BaseModel
from torch import nn

from mmkd.algorithms.build_detector import init_at_random
from mmkd.algorithms.build_teacher import build_teacher, check_recorded, given_teacher
from mmkd.algorithms.class_names import check_common, class_names, names_of_given
from mmkd.binding import bind
from mmkd.binding.class_feeds import map_of
from mmkd.binding.several_teachers import Merged, Teacher, bind_several
from mmkd.cache.cached_teacher import CachedTeacher
from mmkd.checkpoints.detector_checkpoint import load_detector
from mmkd.datasets.channels import input_channels
from mmkd.detections.following import DETECTIONS
from mmkd.recorders.predictions_recorder import PredictionsRecorder, records_rows
from mmkd.rules.distiller_rules import check_alignment
from mmkd.rules.loss_rules import check_losses
from mmkd.teachers.frozen_teacher import FrozenTeacher
from mmkd.teachers.given_detections import FileTeacher, GivenDetections
from mmkd.teachers.input_translation import InputTranslation
from mmkd.teachers.lean_teacher import LeanTeacher
from mmkd.teachers.several import FrozenTeachers, SeveralModels
from mmkd.teachers.teacher_list import TeacherEntry


def build_teachers(
    entries: Sequence[TeacherEntry],
    student: nn.Module,
    classes: Sequence[str] | None,
    class_map: Mapping[str, str | None] | None = None,
) -> list[Teacher]:
    """The teachers of a pair, with their weights and what they call their classes.

    Args:
        entries: one or several.
        student: the built student.
        classes: names of the student's classes; None where they are not known.
        class_map: the pair's, which counts for each of several teachers that has the name.

    Raises:
        FileNotFoundError, TypeError, ValueError: a checkpoint that is missing or does not fit.
    """
    several = len(entries) > 1
    common = class_map if several else None
    taught = [
        _built(place if several else None, entry, student, classes, common)
        for place, entry in enumerate(entries)
    ]
    if common is not None:
        check_common(common, taught)
    return taught


class Teachers:
    """The teachers of a pair, and the distiller's config that they make.

    Args:
        taught: one or several.
        student: the built student.
        distiller: the config of the distiller.

    Raises:
        ValueError: what :func:`mmkd.binding.bind` refuses.
    """

    def __init__(self, taught: Sequence[Teacher], student: nn.Module, distiller: Any) -> None:
        several = len(taught) > 1
        self.taught = list(taught)
        models = {teacher.entry.name: teacher.model for teacher in self.taught}
        first = self.taught[0]
        given = [name for name, model in models.items() if isinstance(model, GivenDetections)]
        if given:
            check_recorded(distiller, given if several else ())
        if several:
            merged = bind_several(distiller, student, self.taught)
            self.model: BaseModel = SeveralModels(models)
        else:
            config = bind(distiller, student, first.model, first.names, first.entry.scale)
            merged = Merged(config, maps={first.entry.name: map_of(config)})
            self.model = first.model
        #: The distiller's config.
        self.distiller = merged.config
        #: Factors of losses beside their own weights.
        self.factors = merged.factors
        self.names = merged.names
        self.maps = merged.maps

    def check(self, distiller: nn.Module, student: nn.Module) -> None:
        """Check the built distiller of a single teacher; of several each has been looked at."""
        if len(self.taught) == 1:
            check_alignment(distiller, student, self.model, self.taught[0].entry.scale)
            check_losses(distiller, student, self.model)

    def fill_untrained(self) -> None:
        """Give those without a checkpoint random weights."""
        for entry, model, _ in self.taught:
            if not entry.ckpt and not isinstance(model, GivenDetections):
                which = 'the teacher' if len(self.taught) == 1 else entry.name
                print_log(f'teacher_ckpt is not set: {which} is untrained', 'current', WARNING)
                init_at_random(model)

    def source(
        self,
        distiller: Any,
        student: nn.Module,
        preprocessor: Any,
        lean: Mapping[str, Any] | str | None,
        shuffle: bool,
        cache: Any = None,
    ) -> FrozenTeacher | FrozenTeachers | FileTeacher | CachedTeacher:
        """What looks at a batch and fills the distiller's recorders.

        Args:
            distiller: built.
            student: built.
            preprocessor: of the pair, which makes the batches.
            lean: the pair's ``lean_teacher``.
            shuffle: the pair's ``shuffle_teacher``.
            cache: the pair's ``teacher_cache``.

        Raises:
            ValueError: a cache cannot take the place of these teachers.
        """
        if cache and shuffle:
            raise ValueError(
                'teacher_cache holds the records of the very images that the student sees, but '
                'shuffle_teacher=True was given as well. Drop one of them.'
            )
        if cache and all(isinstance(model, GivenDetections) for _, model, _ in self.taught):
            raise ValueError(
                'teacher_cache spares a network from running, but the teacher is known by its '
                'detections alone. Leave teacher_cache out.'
            )
        several = len(self.taught) > 1
        parts = {}
        for entry, model, _ in self.taught:
            manager = getattr(distiller, 'teacher_recorders', None)
            if several:
                manager = distiller.teacher_recorders.of(entry.name)
            recorders = [] if manager is None else list(manager.recorders.values())
            for recorder in recorders:
                if isinstance(recorder, PredictionsRecorder) and records_rows(recorder):
                    recorder.scale = entry.scale
            channels = input_channels(student), input_channels(model)
            frozen: Any = FrozenTeacher(
                model,
                InputTranslation(preprocessor, model.data_preprocessor, channels),
                None if manager is None else [recorder.source for recorder in recorders],
                LeanTeacher.of(None if isinstance(model, GivenDetections) else lean),
                shuffle,
                entry.scale,
            )
            key = f'{DETECTIONS}_{entry.name}' if several else DETECTIONS
            parts[entry.name] = given_teacher(frozen, preprocessor, key)
        frozen = parts[self.taught[0].entry.name]
        if isinstance(self.model, SeveralModels):
            frozen = FrozenTeachers(self.model, parts)
        return CachedTeacher(cache, frozen, distiller, student, preprocessor) if cache else frozen

    def may_be_lean(self, cache: Any) -> bool:
        """Whether there is one network that runs, whose form may be chosen."""
        return not cache and not isinstance(self.model, SeveralModels | GivenDetections)

    def balanced(self, balance: Mapping[str, Any]) -> dict[str, Any]:
        """The pair's ``balance`` with the names that its losses have now."""
        shares = balance.get('shares')
        if not isinstance(shares, Mapping):
            return {**balance}
        named = {own: s for name, s in shares.items() for own in self.names.get(name, [name])}
        return {**balance, 'shares': named}


def _built(
    place: int | None,
    entry: TeacherEntry,
    student: nn.Module,
    classes: Sequence[str] | None,
    common: Mapping[str, str | None] | None,
) -> Teacher:
    key = 'teacher' if place is None else f'teacher[{place}].model'
    ckpt = 'teacher_ckpt' if place is None else f'teacher[{place}].ckpt'
    model = build_teacher(entry, student, key, ckpt)
    if isinstance(model, GivenDetections):
        return Teacher(entry, model, names_of_given(model, entry, classes, common))
    if entry.ckpt:
        load_detector(model, entry.ckpt, ckpt, entry.ckpt_strict)
    return Teacher(entry, model, class_names(model, entry, classes, common))
