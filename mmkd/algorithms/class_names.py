"""What the two models of a pair call their classes."""

from collections.abc import Mapping, Sequence
from logging import WARNING
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log
from torch import nn

from mmkd.binding.several_teachers import Teacher
from mmkd.checkpoints.checkpoint_meta import origin
from mmkd.checkpoints.data_origin import check_data_origin
from mmkd.checkpoints.loading import kept
from mmkd.config.names import first_of, nearest
from mmkd.config.read_config import read_config
from mmkd.datasets.data_checks import classes_of_data
from mmkd.heads import describe_head, predicting_head
from mmkd.heads.class_map import ClassMap, ClassNames
from mmkd.teachers.given_detections import GivenDetections
from mmkd.teachers.teacher_list import TeacherEntry


def class_names(
    teacher: nn.Module,
    entry: TeacherEntry,
    classes: Sequence[str] | None,
    common: Mapping[str, str | None] | None = None,
) -> ClassNames | None:
    """The names by which classes are compared; None where not both models' are known.

    Of weights that were loaded with strict=False, classes of equal number are taught one by one,
    whatever their names, unless the teacher's entry says which is which.

    Args:
        teacher: the built teacher, with its weights.
        entry: what it was built from; of the path of a config file the data tell the classes.
        classes: of the student.
        common: the ``class_map`` of several teachers, of which those names count that it has.

    Raises:
        ValueError: the entry names classes, but the names are not known.
    """
    taught = _of_teacher(teacher, entry.model)
    said = entry.class_map
    if said is None and common is not None and taught:
        said = {name: partner for name, partner in common.items() if name in taught}
    told = said is not None or entry.classes is not None
    if not classes or not taught:
        if told:
            raise _names_needed('class_map' if said is not None else _OWNED, not classes)
        return None
    if not told and not entry.ckpt_strict and len(taught) == len(classes):
        return None
    return ClassNames(taught, tuple(classes), said, entry.classes)


def names_of_given(
    teacher: GivenDetections,
    entry: TeacherEntry,
    classes: Sequence[str] | None,
    common: Mapping[str, str | None] | None = None,
) -> ClassNames | None:
    """The names of a teacher that is known by its detections, which it tells by the student's.

    It gives the scores of the classes that it knows; None where these are all, or are not told.

    Args:
        teacher: which gets the ``class_map`` of several, where it has none of its own.
        entry: what it was built from.
        classes: of the student.
        common: see :func:`class_names`.

    Raises:
        TypeError, ValueError: see :meth:`ClassMap.from_names`; the entry names classes, but the
            student's are not known.
    """
    known = teacher.known_classes
    if common and not teacher.class_map:
        teacher.class_map = {k: v for k, v in common.items() if known is None or k in known}
    if not classes:
        if entry.classes is not None:
            raise _names_needed(_OWNED, True)
        return None
    columns = list(range(len(classes)))
    if known is not None:
        matched = ClassMap.from_names(known, classes, teacher.class_map).matched.tolist()
        columns = [place for place in columns if matched[place]]
    if len(columns) == len(classes) and entry.classes is None:
        return None
    teacher.keep(columns)
    return ClassNames([classes[i] for i in columns], tuple(classes), None, entry.classes)


_OWNED = "a teacher's classes"


def _names_needed(key: str, of_student: bool) -> ValueError:
    whose, where = (
        ('student', 'the data (metainfo.classes), or classes of the pair')
        if of_student
        else ('teacher', 'its checkpoint (dataset_meta) or the config that it is built from')
    )
    return ValueError(
        f'{key} needs the names of the classes of both models, but those of the {whose} are not '
        f'known. They are read from {where}.'
    )


def _of_teacher(teacher: nn.Module, source: Any) -> tuple[str, ...]:
    loaded = kept(teacher).get('')
    found = origin(loaded.meta).classes if loaded is not None else ()
    if not found and isinstance(source, str):
        found = of_config(read_config(source, 'teacher'))
    head = predicting_head(teacher)[1]
    count = None if head is None else describe_head(head).classes
    if found and count is not None and len(found) != count:
        print_log(
            f'the teacher scores {count} classes, but {len(found)} are named for it '
            f'({first_of(found)}): the names are not used',
            'current',
            WARNING,
        )
        return ()
    return tuple(found)


def check_common(class_map: Mapping[str, str | None], taught: Sequence[Teacher]) -> None:
    """Check that each name of a ``class_map`` is a class of one of several teachers.

    Raises:
        ValueError: it is not, as far as the teachers' names are known.
    """
    each = {
        model: model.known_classes
        if isinstance(model, GivenDetections)
        else names and names.teacher
        for _, model, names in taught
    }
    known = [name for names in each.values() for name in names or ()]
    lost = [name for name in class_map if name not in known]
    unnamed = [model for model, names in each.items() if names is None]
    if not lost or any(isinstance(model, GivenDetections) for model in unnamed):
        return  # of a file that does not tell its classes it may be one
    if unnamed:
        raise _names_needed('class_map', False)
    near = nearest(str(lost[0]), known, cutoff=0.4) or list(dict.fromkeys(known))
    raise ValueError(
        'class_map must name classes of the teachers as keys, but none of them has '
        f'"{lost[0]}". Nearest: {first_of(near)}.'
    )


def check_named(names: ClassNames | None, classes: Sequence[str] | None) -> None:
    """Check that a pair was built for the classes that the data have.

    Raises:
        ValueError: it was not.
    """
    if names is not None and classes and list(classes) != list(names.student):
        raise ValueError(
            'model.classes must be those of the data, in the order of the labels, '
            f'({first_of(classes)}), but got ({first_of(names.student)}). Leave it out: it is '
            'taken from the data.'
        )


def of_config(config: Config) -> tuple[str, ...]:
    """The classes that a detector's config names: of its data, or of its ``metainfo``."""
    for phase in ('train', 'val', 'test'):
        found = classes_of_data(config, phase)
        if found:
            return tuple(found)
    metainfo = config.get('metainfo')
    found = metainfo.get('classes') if isinstance(metainfo, Mapping) else None
    return tuple(found) if isinstance(found, list | tuple) else ()


def check_origins(pair: Any, config: Mapping[str, Any], classes: Sequence[str] | None) -> None:
    """:meth:`mmkd.algorithms.DetectionDistill.check_data_origin`."""
    # Scores are not taught by backbone and neck alone.
    scores = getattr(pair.teacher_source, 'features', None) is None
    for name, model in pair.teachers.items():
        if isinstance(model, GivenDetections):  # its classes are known by their names
            continue
        paired = pair.class_maps[name] is not None
        check_data_origin(model, config, None if paired else classes, scores)
        check_named(pair.class_names[name], classes)
    check_data_origin(pair.student, config, classes, False)
