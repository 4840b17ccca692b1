"""The teachers of a pair that is compared: what is trained and evaluated of them, and what not."""

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmkd.algorithms.class_names import of_config
from mmkd.checkpoints.checkpoint_meta import origin
from mmkd.checkpoints.reader import read_anything
from mmkd.checkpoints.ultralytics import CheckpointError
from mmkd.config.given_teacher import files_of, is_given
from mmkd.config.read_config import read_config
from mmkd.datasets.data_checks import classes_of_data
from mmkd.export.student_config import model_config
from mmkd.heads.class_map import ClassMap
from mmkd.teachers.teacher_list import read_teachers


def is_apart(pair: Config) -> bool:
    """Whether a comparison neither trains nor evaluates what teaches.

    So it is where a teacher is known by its detections, and of a list of teachers.
    """
    teacher = pair.model.teacher
    return isinstance(teacher, list | tuple) or is_given(teacher)


def write_out_models(pair: Config) -> None:
    """Put the models of config files into the pair, so that its text says all that is trained.

    A file whose data tell other classes than the student's, by which these are known, stays named.
    """
    pair.model.architecture = model_config(pair.model.architecture)
    own = tuple(classes_of_data(pair, 'train') or ())
    for place, key in _networks(pair):
        source = place[key]
        if not isinstance(source, str) or of_config(read_config(source, key)) in ((), own):
            place[key] = model_config(source)


def has_other_classes(pair: Config, teacher_ckpt: str) -> bool:
    """Whether the one teacher of a pair, a network, has other classes than the student.

    Args:
        pair: its models written out.
        teacher_ckpt: the teacher's checkpoint, which may not be there yet.

    Raises:
        TypeError, ValueError: see :meth:`mmkd.heads.class_map.ClassMap.from_names`.
    """
    own = tuple(classes_of_data(pair, 'train') or ())
    source, told = pair.model.teacher, pair.model.get('class_map')
    names: tuple[str, ...] = ()
    if '://' not in teacher_ckpt and Path(teacher_ckpt).is_file():
        with suppress(CheckpointError):  # its evaluation tells what is wrong with the file
            saved = read_anything(teacher_ckpt)
            names = origin(saved.get('meta') or {}).classes if isinstance(saved, Mapping) else ()
    if not names and isinstance(source, str):
        names = of_config(read_config(source))
    if not names or not own or (names == own and not told):
        return bool(told)
    if not told and len(names) == len(own) and set(names).isdisjoint(own):
        return False  # the same ones by other names, if any
    ClassMap.from_names(names, own, told)
    return True


def _networks(pair: Config) -> Iterator[tuple[Any, str]]:
    """Where in a pair the networks of its teachers stand: a dict and its key."""
    teacher = pair.model.teacher
    several = isinstance(teacher, list | tuple)
    places = [(entry, 'model') for entry in teacher] if several else [(pair.model, 'teacher')]
    return ((place, key) for place, key in places if not is_given(place[key]))


def taught_from(pair: Config, teacher_ckpt: str) -> list[Path]:
    """The files that a taught arm learns from."""
    teacher = pair.model.teacher
    found = [Path(place[key]) for place, key in _networks(pair) if isinstance(place[key], str)]
    if not isinstance(teacher, list | tuple):
        weights = [] if is_given(teacher) else [teacher_ckpt]
        given = files_of(teacher) if is_given(teacher) else []
    else:
        weights = [entry.get('ckpt') for entry in teacher]
        given = [file for entry in teacher for file in files_of(entry['model'])]
    found += [Path(os.path.expanduser(one)) for one in weights if one and '://' not in one]
    return [*(path for path in found if '::' not in str(path)), *given]


def check_no_weights(pair: Config, teacher_ckpt: str, trained: bool) -> None:
    """Check that what a comparison leaves as it is has its weights, and is asked for no others.

    Raises:
        FileNotFoundError: a teacher of several has no file that is there.
        ValueError: there are several teachers, or one that is known by its detections, and weights
            are given or to be trained.
    """
    asked, teacher = teacher_ckpt or '--train-teacher', pair.model.teacher
    if is_given(teacher) and (teacher_ckpt or trained):
        raise ValueError(
            'a teacher that is known by its detections alone has no weights to be given or '
            f'trained, but got {asked}. Leave it out.'
        )
    if not isinstance(teacher, list | tuple):
        return
    if teacher_ckpt or trained:
        raise ValueError(
            f'of several teachers each has its own weights, but got {asked}. Leave it out, and '
            "name them in the pair: teacher=[dict(model=..., ckpt='teacher.pth')]."
        )
    for place, entry in enumerate(read_teachers(teacher)):
        ckpt = os.path.expanduser(entry.ckpt or '')
        if not is_given(entry.model) and '://' not in ckpt and not Path(ckpt).is_file():
            raise FileNotFoundError(
                'a comparison trains the teacher of a pair that has one, but of several each must '
                f'be trained already, and teacher[{place}] has '
                f'{f"ckpt={ckpt!r}, which is not there" if ckpt else "no ckpt"}. Train it with '
                '"mmkd train", and name its checkpoint.'
            )
