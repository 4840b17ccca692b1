"""A pair's teacher as a detector of the student's data, by the student's classes."""

from collections.abc import Callable

from mmengine.config import Config
from torch import nn

from mmkd.algorithms.build_teacher import settings_of
from mmkd.algorithms.class_names import class_names
from mmkd.config.given_teacher import is_given
from mmkd.config.names import first_of
from mmkd.config.pair_config import is_distillation
from mmkd.datasets.data_checks import classes_of_data
from mmkd.export.student_config import model_config, student_config
from mmkd.heads import describe_head, predicting_head
from mmkd.heads.class_map import ClassMap
from mmkd.runner.detections_on_data import DetectionsOnData  # noqa: F401  (registers it)
from mmkd.teachers.teacher_list import TeacherEntry, read_teachers

#: Of a detector with its weights which of its classes are which of the data.
Classes = Callable[[nn.Module], ClassMap | None]


def teacher_on_data(
    cfg: Config, name: str = '', checkpoint: str | None = None
) -> tuple[Config, Classes]:
    """The config of a pair's teacher on the pair's data, and what it calls their classes.

    Args:
        cfg: of the pair.
        name: of one of several teachers. Defaults to '', the only one.
        checkpoint: of one that is known by its detections what takes the place of its file, or of
            its function. Defaults to None, that of the pair.

    Returns:
        tuple: the config; and of a network, with its weights, which of its classes are which. One
        that is known by its detections is a :class:`DetectionsOnData`, which knows them itself.

    Raises:
        ValueError: it is no pair, has no such teacher, or the data do not name their classes.
    """
    if not is_distillation(cfg) or 'teacher' not in cfg.model:
        raise ValueError(
            '--teacher evaluates the teacher of a pair, but the config is none. Leave it out.'
        )
    model = cfg.model
    entries = read_teachers(model.teacher, class_map=model.get('class_map'))
    entry = _named(entries, name)
    common = model.get('class_map') if len(entries) > 1 else None
    classes = classes_of_data(cfg, 'test')
    own = Config(cfg.to_dict())
    if is_given(entry.model):
        if not classes:
            raise ValueError(
                'the data that a teacher is tested on must name their classes, by which those of '
                'its detections are known, but test_dataloader names none. Give its data set '
                'metainfo=dict(classes=(...)).'
            )
        made, given = student_config(own), settings_of(entry.model)
        door = next(iter(given))
        made.model = dict(
            _scope_='mmrazor',
            type='DetectionsOnData',
            teacher={**given, door: checkpoint or given[door]},
            classes=list(classes),
            class_map=entry.class_map,
            common=common,
        )
        return made, lambda teacher: None
    own.model = model_config(entry.model)

    def of(teacher: nn.Module) -> ClassMap | None:
        names = class_names(teacher, entry, classes, common)
        head = predicting_head(teacher)[1]
        count = None if head is None else describe_head(head).classes
        if names is None and classes and count not in (None, len(classes)):
            raise ValueError(
                f'the teacher scores {count} classes, the data has {len(classes)}, and which is '
                'which follows from names, but those of the teacher are not known. They are read '
                'from its checkpoint (dataset_meta) or the config that it is built from.'
            )
        return None if names is None else names.map()

    return student_config(own), of


def _named(entries: list[TeacherEntry], name: str) -> TeacherEntry:
    names = [entry.name for entry in entries]
    if len(entries) == 1 and name in ('', names[0]):
        return entries[0]
    if name not in names:
        raise ValueError(
            f'--teacher must name one of {first_of(names)}, but got {name or "none"}. Correct it.'
        )
    return entries[names.index(name)]
