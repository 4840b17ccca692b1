"""The teacher of a pair: a network, or only what it detects."""

from collections.abc import Mapping
from logging import WARNING
from typing import Any

from mmengine.logging import print_log
from mmengine.model import BaseModel

from mmkd.algorithms.build_detector import Detector, build_detector, init_at_random
from mmkd.checkpoints.detector_checkpoint import load_detector
from mmkd.config.given_teacher import is_given
from mmkd.detections.feed import feed_detections
from mmkd.detections.following import DETECTIONS
from mmkd.detections.results_file import read_results
from mmkd.heads import describe_head, predicting_head
from mmkd.teachers.frozen_teacher import FrozenTeacher
from mmkd.teachers.given_detections import FileOfDetections, FileTeacher, GivenDetections

#: The methods of configs/_base_/methods/ that take detections.
METHODS = ('soft_ground_truth', 'prediction_rows')


def build_teacher(source: Detector, student: BaseModel) -> BaseModel:
    """Build the teacher's network, or what stands for a teacher that is known by its detections.

    Args:
        source: as of :func:`build_detector`; or a file of detections, or ``dict(results=file,
            class_map=...)``.
        student: the built student, by whose classes detections are told.

    Raises:
        FileNotFoundError, ValueError, TypeError: it cannot be built.
    """
    if isinstance(source, BaseModel) or not is_given(source):
        return build_detector(source, 'teacher')
    given = source if isinstance(source, Mapping) else {'results': source}
    settings: dict[str, Any] = dict(given)
    unknown = set(settings) - {'results', 'class_map'}
    if unknown:
        raise ValueError(
            'teacher=dict(results=...) must have results, a file of detections, and perhaps '
            f'class_map, but has {", ".join(sorted(unknown))}. Take it out.'
        )
    file = str(settings['results'])
    read_results(file)
    head = predicting_head(student)[1]
    classes = None if head is None else describe_head(head).classes
    if classes is None:
        raise ValueError(
            'the student of a teacher that is known by its detections must have a head that says '
            f'its num_classes, but got {type(student).__name__}. Distil features from a network.'
        )
    return FileOfDetections(classes, file, settings.get('class_map'))


def check_recorded(distiller: Any, teacher: BaseModel) -> None:
    """Check that a distiller asks a teacher for no more than there is of it.

    Raises:
        ValueError: it records more than detections.
    """
    if not isinstance(teacher, GivenDetections) or not isinstance(distiller, Mapping):
        return
    for name, recorder in (distiller.get('teacher_recorders') or {}).items():
        plain = recorder.get('source') in (None, '', 'bbox_head')
        plain = plain and recorder.get('layers', 'last') == 'last'
        if recorder.get('type') != 'Predictions' or not plain:
            raise ValueError(
                'of a teacher that is a file, an ONNX model or a function there are detections '
                f'alone, but teacher_recorders.{name} records {recorder.get("type")} '
                f'{recorder.get("source", "")}'.rstrip()
                + '. Take a method that teaches '
                f'detections: {", ".join(METHODS)} (docs/any_teacher.md).'
            )


def load_teacher(teacher: BaseModel, checkpoint: str | None, strict: bool) -> None:
    """Give a teacher its weights.

    Raises:
        FileNotFoundError, ValueError: they are not there, or do not fit.
    """
    if isinstance(teacher, GivenDetections):
        if checkpoint:
            raise ValueError(
                'teacher_ckpt holds the weights of a network, but the teacher is known by its '
                f'detections alone, and got teacher_ckpt="{checkpoint}". Leave it out.'
            )
    elif checkpoint:
        load_detector(teacher, checkpoint, 'teacher_ckpt', strict)
    else:
        print_log('teacher_ckpt is not set: the teacher is untrained', 'current', WARNING)
        init_at_random(teacher)


def file_teacher(frozen: FrozenTeacher, preprocessor: Any) -> FrozenTeacher | FileTeacher:
    """What fills the teacher's recorders: the frozen teacher, or the file that stands for it."""
    if isinstance(frozen.model, FileOfDetections):
        return FileTeacher(frozen.model, preprocessor, DETECTIONS, frozen.shuffle)
    return frozen


def begin_teaching(pair: Any, loader: Any) -> list[str]:
    """Let the batches of a data loader bring what a pair's teacher detected in their images.

    Of a pair whose teacher is a network, and of a plain detector, nothing is changed.

    Args:
        pair: the built algorithm.
        loader: the training's data loader, whose workers have not started.

    Returns:
        Lines for the log.

    Raises:
        ValueError: the detections do not fit the images or the classes.
    """
    teacher = getattr(getattr(pair, 'teacher_source', None), 'model', None)
    if not isinstance(teacher, FileOfDetections):
        return []
    tally = feed_detections(loader, read_results(teacher.file), teacher.class_map)
    return tally.notes(teacher.file)
