"""The teacher of a pair: a network, or only what it detects."""

import logging
from collections.abc import Mapping, Sequence
from copy import deepcopy
from types import SimpleNamespace
from typing import Any

from mmengine.logging import print_log
from mmengine.model import BaseModel
from mmengine.registry import DATASETS
from torch import nn

from mmkd.algorithms.build_detector import build_detector
from mmkd.config.given_teacher import DOORS, is_given
from mmkd.config.names import first_of
from mmkd.detections.agreement import compare_with_truth
from mmkd.detections.feed import feed_detections, leaf_datasets
from mmkd.detections.following import DETECTIONS
from mmkd.detections.results_file import read_results
from mmkd.heads import describe_head, predicting_head
from mmkd.heads.class_map import check_form
from mmkd.teachers.frozen_teacher import FrozenTeacher
from mmkd.teachers.given_detections import (
    FileOfDetections,
    FileTeacher,
    GivenDetections,
    LiveDetections,
)
from mmkd.teachers.outside_detectors import FunctionDetector, OnnxDetector
from mmkd.teachers.teacher_list import TeacherEntry

#: The methods of configs/_base_/methods/ that take detections.
METHODS = ('soft_ground_truth', 'prediction_rows')


def build_teacher(
    entry: TeacherEntry,
    student: nn.Module,
    what: str = 'teacher',
    ckpt: str = 'teacher_ckpt',
) -> BaseModel:
    """Build the teacher's network, or what stands for a teacher that is known by its detections.

    Args:
        entry: whose ``model`` is as of :func:`build_detector`; or a file of detections or an ONNX
            file; or a dict with one of :data:`mmkd.config.given_teacher.DOORS`.
        student: the built student, by whose classes detections are told.
        what: the key of the config, for messages.
        ckpt: that of its checkpoint.

    Raises:
        FileNotFoundError, ValueError, TypeError: it cannot be built.
    """
    source = entry.model
    if callable(source) and not isinstance(source, BaseModel):
        raise TypeError(
            f'{what} must tell the classes of a function that detects, but is the function alone. '
            'Write dict(function=..., classes=[...]).'
        )
    if isinstance(source, BaseModel) or not is_given(source):
        return build_detector(source, what)
    if entry.ckpt:
        raise ValueError(
            f'{ckpt} holds the weights of a network, but the teacher is known by its '
            f'detections alone, and got {ckpt}="{entry.ckpt}". Leave it out.'
        )
    head = predicting_head(student)[1]
    classes = None if head is None else describe_head(head).classes
    if classes is None:
        raise ValueError(
            'the student of a teacher that is known by its detections must have a head that says '
            f'its num_classes, but got {type(student).__name__}. Distil features from a network.'
        )
    return build_given(entry, classes, what)


def build_given(
    entry: TeacherEntry, classes: int, what: str = 'teacher'
) -> FileOfDetections | LiveDetections:
    """Build what stands for a teacher that is known by its detections.

    Args:
        entry: see :func:`build_teacher`.
        classes: C, how many the student has.
        what: the key of the config, for messages.

    Raises:
        FileNotFoundError, ValueError, TypeError: it cannot be built.
    """
    settings = settings_of(entry.model)
    class_map = settings.pop('class_map', None) or entry.class_map
    check_form(class_map)
    door = next(iter(settings))
    if door == 'results':
        read_results(settings[door], f'model.{what}')
        if entry.scale != 1:
            raise ValueError(
                f'scale shows a teacher another size of the image, but {what} is a file of '
                f'detections, to which none is shown, and got scale={entry.scale:g}. Leave it out.'
            )
    if door == 'results':
        return FileOfDetections(classes, str(settings[door]), class_map)
    detector = (
        OnnxDetector(settings['onnx'], settings.get('description'), settings.get('providers'))
        if door == 'onnx'
        else FunctionDetector(
            settings['function'], settings.get('classes') or (), bool(settings.get('softmax'))
        )
    )
    return LiveDetections(classes, detector, class_map)


#: What may stand beside each door to a teacher that is known by its detections.
_BESIDE = {
    'results': ('class_map',),
    'onnx': ('class_map', 'description', 'providers'),
    'function': ('class_map', 'classes', 'softmax'),
}


def settings_of(source: Any) -> dict[str, Any]:
    """The config of a teacher that is known by its detections, with its door first."""
    if not isinstance(source, Mapping):
        return {'onnx' if str(source).lower().endswith('.onnx') else 'results': source}
    doors = [door for door in DOORS if door in source]
    unknown = set(source) - {doors[0], *_BESIDE[doors[0]]}
    if unknown:
        raise ValueError(
            f'teacher=dict({doors[0]}=...) may have {" and ".join(_BESIDE[doors[0]])} besides, but '
            f'has {", ".join(sorted(unknown))}. Take it out.'
        )
    return {doors[0]: source[doors[0]], **source}


def check_recorded(distiller: Any, names: Sequence[str] = ()) -> None:
    """Check that a distiller asks the teacher for no more than its detections.

    Args:
        distiller: its config.
        names: of several teachers those that are known by their detections.

    Raises:
        ValueError: it records more than detections.
    """
    if not isinstance(distiller, Mapping):
        return
    for name, recorder in (distiller.get('teacher_recorders') or {}).items():
        plain = recorder.get('source') in (None, '', 'bbox_head')
        plain = plain and recorder.get('layers', 'last') == 'last'
        if recorder.get('type') != 'Predictions' or not plain:
            whose = f' ({first_of(names)})' if names else ''
            recorded = f'{recorder.get("type")} {recorder.get("source", "")}'.rstrip()
            raise ValueError(
                f'of a teacher that is a file, an ONNX model or a function{whose} there are '
                f'detections alone, but teacher_recorders.{name} records {recorded}. Take a method '
                f'that teaches detections: {", ".join(METHODS)} (docs/any_teacher.md).'
            )


def given_teacher(
    frozen: FrozenTeacher, preprocessor: Any, key: str = DETECTIONS
) -> FrozenTeacher | FileTeacher:
    """What fills the teacher's recorders: the frozen teacher, or the file that stands for it.

    Args:
        frozen: the teacher.
        preprocessor: of the pair, which is the first to get a batch.
        key: of a batch, under which the detections of a file come.
    """
    if isinstance(frozen.model, FileOfDetections):
        return FileTeacher(frozen.model, preprocessor, key, frozen.shuffle)
    return frozen


def begin_teaching(pair: Any, loader: Any) -> list[str]:
    """Let the batches of a data loader bring what a pair's teachers detected in their images.

    Of a pair whose teachers are networks, and of a plain detector, nothing is changed.

    Args:
        pair: the built algorithm.
        loader: the training's data loader, whose workers have not started.

    Returns:
        Lines for the log.

    Raises:
        ValueError: the detections do not fit the images or the classes.
    """
    parts = getattr(getattr(pair, 'teacher_source', None), 'parts', {}).values()
    for teacher in (part.model for part in parts):
        if isinstance(teacher, LiveDetections):
            classes = next((p.metainfo.get('classes') for p in leaf_datasets(loader.dataset)), None)
            teacher.take_classes(classes or ())
    taught = [part for part in parts if isinstance(part, FileTeacher)]
    if not taught:
        return []
    files = {part.key: (read_results(part.model.file), part.model.class_map) for part in taught}
    tallies = feed_detections(loader, files)
    lines = []
    compared = compare_with_truth(loader.dataset)
    for part, tally, truth in zip(taught, tallies, compared, strict=True):
        file = part.model.file
        texts = [tally.warning(file) if tally.lost else '', truth.warning(file)]
        for text in filter(None, texts):
            print_log(text, logger='current', level=logging.WARNING)
        lines += [*tally.notes(file), *filter(None, [truth.note(file)])]
    return lines


def rehearse_teaching(pair: Any, config: Mapping[str, Any]) -> list[str]:
    """What :func:`begin_teaching` tells or refuses, without a run: by the data of its config."""
    if not any(isinstance(model, GivenDetections) for model in pair.teachers.values()):
        return []
    dataset = DATASETS.build(deepcopy(config['train_dataloader']['dataset']))
    return begin_teaching(pair, SimpleNamespace(dataset=dataset, collate_fn=None))
