"""What a pair's ``teacher`` says: one teacher or a list of them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from mmkd.config.given_teacher import is_given
from mmkd.config.names import first_of, nearest
from mmkd.heads.class_map import check_form


@dataclass(frozen=True)
class TeacherEntry:
    """One teacher of a pair.

    Args:
        model (dict | str | BaseModel): a model config, the path of a config file or a built model;
            or what is known by its detections: a file, or a dict with ``results``, ``onnx`` or
            ``function``.
        ckpt (str, optional): its checkpoint. Defaults to None, untrained.
        ckpt_strict (bool): whether each key must fit. Defaults to True.
        name (str): by which recorders, losses and the log call it. Defaults to 'teacher1',
            'teacher2', ... by its place.
        weight (float): beside the other teachers. Defaults to 1.0.
        classes (list[str], optional): the student's classes that it teaches. Defaults to None: all
            that it knows.
        class_map (dict, optional): of its classes; see docs/any_teacher.md. Defaults to None, that
            of the pair.
        scale (float): the size of the image that it sees, by that of the student's. Defaults to
            1.0.
    """

    model: Any
    ckpt: str | None = None
    ckpt_strict: bool = True
    name: str = ''
    weight: float = 1.0
    classes: tuple[str, ...] | None = None
    class_map: Mapping[str, str | None] | None = None
    scale: float = 1.0


def read_teachers(
    teacher: Any,
    ckpt: str | None = None,
    ckpt_strict: bool = True,
    class_map: Mapping[str, str | None] | None = None,
) -> list[TeacherEntry]:
    """The teachers of a pair.

    Args:
        teacher: of :class:`mmkd.algorithms.DetectionDistill`: a teacher, or a list of dicts with
            the arguments of :class:`TeacherEntry`.
        ckpt: of a single teacher.
        ckpt_strict: likewise.
        class_map: the pair's; of several teachers that have none of their own it is looked at when
            their names are known.

    Raises:
        TypeError, ValueError: an entry of another form or with an unknown key, numbers out of
            range, names that are no names or repeat, classes for some of several teachers alone.
    """
    check_form(class_map)
    if not isinstance(teacher, list | tuple):
        return [TeacherEntry(teacher, ckpt, ckpt_strict, 'teacher', class_map=class_map)]
    if ckpt is not None:
        raise ValueError(
            'teacher_ckpt is that of a single teacher, but teacher is a list. Write the checkpoint '
            "into its entry: teacher=[dict(model=..., ckpt='teacher.pth')]."
        )
    if not teacher:
        raise ValueError('teacher must be a teacher or a list of at least one, but got none.')
    found = [_read(i, entry, class_map, len(teacher)) for i, entry in enumerate(teacher)]
    names = [entry.name for entry in found]
    repeated = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if repeated:
        raise ValueError(
            f'teachers must have different names, but got {", ".join(repeated)} twice. Set name in '
            'their entries.'
        )
    owners = [entry.name for entry in found if entry.classes is not None]
    if len(found) > 1 and 0 < len(owners) < len(found):
        raise ValueError(
            'of several teachers each must say which classes it teaches, or none, but only '
            f'{", ".join(owners)} does. Give the others classes, too, or leave them out.'
        )
    return found


def _read(
    place: int, entry: Any, class_map: Mapping[str, str | None] | None, count: int
) -> TeacherEntry:
    where = f'teacher[{place}]'
    if not isinstance(entry, Mapping) or 'model' not in entry:
        given = isinstance(entry, str) or is_given(entry)  # of several each is an entry
        meant = f'model={entry!r}' if given else "model='teacher.py', ckpt='teacher.pth'"
        raise TypeError(
            f'{where} must be a dict with its model, but got '
            f'{first_of(entry) if isinstance(entry, Mapping) else type(entry).__name__}. Write '
            f'dict({meant}).'
        )
    known = [field.name for field in fields(TeacherEntry)]
    for key in entry:
        if key not in known:
            near = nearest(str(key), known, cutoff=0.4) or known
            raise ValueError(
                f'{where} must have keys of {", ".join(known)}, but got "{key}". Nearest: '
                f'{", ".join(near)}.'
            )
    name = entry.get('name') or f'teacher{place + 1}'
    if not isinstance(name, str) or not name.isidentifier() or 'loss' in name:
        raise ValueError(
            f'{where}.name must be a word of letters, digits and underscores without "loss", since '
            f'it is a part of log keys, but got {name!r}.'
        )
    for key in ('weight', 'scale'):
        value = entry.get(key, 1.0)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not 0 < value < math.inf:
            raise ValueError(f'{where}.{key} must be a number above 0, but got {value!r}.')
    check_form(entry.get('class_map'))
    classes = entry.get('classes')
    listed = isinstance(classes, Sequence) and not isinstance(classes, str) and len(classes)
    if classes is not None and not listed:
        raise TypeError(
            f"{where}.classes must be a list of names of the student's classes, but got "
            f"{classes!r}. Write classes=['car'], or leave it out."
        )
    name = name if count > 1 else 'teacher'  # of a single one nothing is called by its name
    own = {**entry, 'name': name, 'classes': None if classes is None else tuple(classes)}
    if own.get('class_map') is None and count == 1:
        own['class_map'] = class_map
    return TeacherEntry(**own)


def is_several(teacher: Any) -> bool:
    """Whether a pair's ``teacher`` is more than one."""
    return isinstance(teacher, list | tuple) and len(teacher) > 1
