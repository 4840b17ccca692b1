"""A pair written by inheritance from the configs of two detectors."""

import contextlib
import io
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope
from mmrazor.registry import MODELS

from mmkd.algorithms.build_detector import build_detector
from mmkd.algorithms.build_teacher import build_teacher, rehearse_teaching
from mmkd.algorithms.class_names import names_of_given, of_config
from mmkd.checkpoints.detector_checkpoint import load_detector
from mmkd.checkpoints.fetch import is_address
from mmkd.config.config_errors import config_errors
from mmkd.config.config_files import config_files
from mmkd.config.names import nearest
from mmkd.config.pair_config import is_distillation, set_classes, stated_classes
from mmkd.config.read_config import read_config
from mmkd.datasets.data_checks import check_data, name_classes
from mmkd.fileio.atomic_writes import write_atomic
from mmkd.fileio.check_not_read import check_not_read
from mmkd.heads.class_map import ClassNames
from mmkd.pairing.choose_method import choose_method
from mmkd.pairing.own_data import find_own_data
from mmkd.pairing.pair_text import (
    Request,
    last_checkpoint,
    located,
    pair_text,
    teacher_from,
    teacher_text,
    unscaled,
    work_dir_line,
)
from mmkd.rules.schedule import check_schedule
from mmkd.rules.warm_up import long_warm_ups
from mmkd.teachers.teacher_list import TeacherEntry


class Written(NamedTuple):
    """What was written, and why."""

    files: list[Path]
    method: str
    why: str
    notes: list[str]


def write_pair(request: Request) -> Written:
    """Write the config of a pair, and that of a teacher of the same classes if it needs one.

    The checks before a run look at what was written; where they refuse it, nothing is left of it.

    Raises:
        FileExistsError: a file is there.
        FileNotFoundError, ValueError, TypeError: a config, the checkpoint, the data or the method
            does not do; the message says what and what to do.
    """
    teacher_out = request.out.with_name(f'{request.out.stem}_teacher.py')
    _check_request(request)
    student = _detector(request.student, 'STUDENT')
    teacher = None if request.given is not None else _detector(request.teacher, 'TEACHER')
    data = find_own_data(request.data, request.classes) if request.data else None
    own_teacher, names = False, None
    if data is not None:
        own_teacher = teacher is not None and stated_classes(teacher.model) != len(data.classes)
        for config in filter(None, (student, teacher)):
            set_classes(config.model, len(data.classes))
    elif teacher is not None:
        names = _differing_classes(student, teacher, request)
    network = None if teacher is None else _built(teacher)
    if network is not None and request.teacher_ckpt is not None:  # before what takes longer
        classes = data.classes if data is not None else ()
        load_detector(network, request.teacher_ckpt, '--teacher-ckpt', classes=classes)
    models = [_built(student)]
    if network is not None:
        models.append(network)
    else:
        entry = TeacherEntry(request.given)
        models.append(build_teacher(entry, models[0]))
        named = data.classes if data is not None else of_config(student)
        known = len(named) == models[1].num_classes  # else they are not the student's
        names = names_of_given(models[1], entry, named if known else None)
    method, why = choose_method(request, models[0], models[1], names)

    texts, own = {}, []
    ckpt, taught_by = request.teacher_ckpt, teacher_from(request)
    if ckpt is not None:
        ckpt = located(ckpt, request)
    if data is not None and teacher is not None and (own_teacher or ckpt is None):
        texts[teacher_out] = teacher_text(request, data)
        taught_by = f'{{{{ fileDirname }}}}/{teacher_out.name}'
        ckpt = ckpt or last_checkpoint(teacher, teacher_out)
        own = [work_dir_line(request.out)]
    texts[request.out] = pair_text(request, method, data, models, taught_by, ckpt, own)
    for path in texts:
        _check_new(path, request)
    before = {path: path.read_bytes() if path.exists() else None for path in texts}
    try:
        for path, text in texts.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, text.encode())
        own_classes = None if data is None else data.classes
        notes = check_pair(request.out, request.teacher_ckpt is not None, own_classes)
        if data is not None:
            notes += [*data.notes, *unscaled(request), *_warm_ups(read_config(request.out))]
        if teacher_out in texts and request.teacher_ckpt is None:
            notes += [note for note in _check_training(teacher_out) if note not in notes]
    except BaseException:
        for path, content in before.items():
            if content is None:
                path.unlink(missing_ok=True)
            else:
                write_atomic(path, content)
        raise
    return Written([*texts], method.name, why, notes)


def check_pair(path: Path, trained: bool = True, classes: Sequence[str] | None = None) -> list[str]:
    """The checks that need no training step: data, schedule, both models, the checkpoint.

    Args:
        path: config of the pair.
        trained: whether the teacher's checkpoint must be there.
        classes: of the data, which must then be there.

    Returns:
        What the checks note.

    Raises:
        ConfigError: a key of the config is at fault; the message names it.
    """
    config = read_config(path)
    with config_errors(config):
        phases = [p for p in ('train', 'val', 'test') if config.get(f'{p}_dataloader')]
        there = 'train' in phases
        try:
            notes = check_data(config, phases, here=False)
        except FileNotFoundError as error:
            if classes is not None:
                raise
            there = False
            notes = [f'the data are not there yet, and were not checked: {error}']
        notes += check_schedule(config)
        name_classes(config)
        model = config.model
        if not trained:
            model.teacher_ckpt = None
        scope = config.get('default_scope') or 'mmdet'
        with DefaultScope.overwrite_default_scope(scope), torch.random.fork_rng(devices=[]):
            built = MODELS.build(model)
            if there:
                notes += rehearse_teaching(built, config)
        if classes is not None:
            built.check_data_origin(config, classes)
    return notes


def _check_training(path: Path) -> list[str]:
    """The same for a teacher that is yet to be trained."""
    config = read_config(path)
    with config_errors(config):
        phases = [p for p in ('train', 'val', 'test') if config.get(f'{p}_dataloader')]
        notes = [*check_data(config, phases, here=False), *check_schedule(config)]
    return [*notes, *(f'teacher: {note}' for note in _warm_ups(config))]


def _warm_ups(config: Config) -> list[str]:
    """What a warm-up takes too much of on these data."""
    loader = config['train_dataloader']
    with (
        DefaultScope.overwrite_default_scope(config.get('default_scope') or 'mmdet'),
        contextlib.redirect_stdout(io.StringIO()),  # of pycocotools
    ):
        images = len(DATASETS.build(_without_pipelines(loader['dataset'])))
    size = loader.get('batch_size') or 1
    return [
        f'of {images} images, {size} in a step: {found}'
        for found in long_warm_ups(config, math.ceil(images / size))
    ]


def _without_pipelines(dataset: Any) -> Any:
    """A copy of a data set's config that transforms nothing: its packages may not be there."""
    if isinstance(dataset, dict):
        return {
            key: [] if key == 'pipeline' else _without_pipelines(value)
            for key, value in dataset.items()
        }
    return [_without_pipelines(item) for item in dataset] if type(dataset) is list else dataset


def _check_request(request: Request) -> None:
    ckpt, given = request.teacher_ckpt, request.given
    if request.description is not None and not request.teacher.lower().endswith('.onnx'):
        raise ValueError(
            f'--describe is for an ONNX file, but TEACHER is "{request.teacher}". Leave it out.'
        )
    if given is not None and ckpt is not None:
        raise ValueError(
            f'--teacher-ckpt holds the weights of a network, but "{request.teacher}" is known by '
            'its detections alone. Leave it out.'
        )
    if ckpt is None and request.data is None and given is None:
        raise ValueError(
            '--teacher-ckpt must name the checkpoint of the trained teacher, but is missing. It may'
            ' be left out with --data alone, where the teacher is trained on these data first.'
        )
    if ckpt is not None and not is_address(ckpt) and not os.path.isfile(ckpt):
        folder, name = os.path.split(ckpt)
        near = nearest(name, os.listdir(folder or '.') if os.path.isdir(folder or '.') else [], 1)
        meant = f' Did you mean "{os.path.join(folder, near[0])}"?' if near else ''
        raise FileNotFoundError(
            f'--teacher-ckpt must be an existing file or an address, but there is no "{ckpt}" '
            f'(seen from {os.getcwd()}).{meant} With --data it may be left out: '
            'the teacher is then trained on these data.'
        )
    if request.classes and request.data is None:
        raise ValueError('--classes are those of --data, which is missing. Name the folder.')
    if request.out.suffix != '.py':
        raise ValueError(f'--out must be a file that ends with .py, but got "{request.out}".')
    _check_new(request.out, request)


def _check_new(path: Path, request: Request) -> None:
    named = (request.teacher, request.student, request.description, request.teacher_ckpt)
    bases = [*config_files(request.teacher), *config_files(request.student)]
    check_not_read([path], [*named, *bases])
    if path.exists() and not request.force:
        raise FileExistsError(
            f'a file must not be overwritten, but {path} exists. Name another --out, or --force '
            'to overwrite it.'
        )


def _detector(source: str, what: str) -> Config:
    config = read_config(source, what)
    if is_distillation(config):
        raise ValueError(
            f'{what} must be the config of a detector, but "{source}" is that of a pair. Name the '
            "config of the pair's student or teacher."
        )
    if not isinstance(config.get('model'), dict) or 'type' not in config.model:
        raise ValueError(f'{what} must be a config with a model, but "{source}" has none.')
    if getattr(config, '_imported_names', None):
        raise ValueError(
            f'{what} must be a config in plain text, since the pair inherits from it, but '
            f'"{source}" imports its parts (read_base). Name the plain one of the same name.'
        )
    return config


def _built(config: Config) -> Any:
    with (
        DefaultScope.overwrite_default_scope(config.get('default_scope') or 'mmdet'),
        torch.random.fork_rng(devices=[]),
    ):
        return build_detector(config.model)


def _differing_classes(student: Config, teacher: Config, request: Request) -> ClassNames | None:
    """The names of classes that are paired by them; None where the numbers are equal."""
    own, other = stated_classes(student.model), stated_classes(teacher.model)
    if own is None or other is None or own == other:
        return None
    # of a head of another number they are no names
    taught, heard = (
        found if len(found) == count else ()
        for found, count in ((of_config(teacher), other), (of_config(student), own))
    )
    names = ClassNames(taught, heard)
    if not names.alike:
        raise ValueError(
            f'teacher and student must score the same classes, but "{request.teacher}" has {other} '
            f'and "{request.student}" {own}, and no name is a class of both. Take a teacher of the '
            'same classes, or train one: with --data and --classes a config for it is written, '
            'too. Or write the pair by hand, with a class_map.'
        )
    return names
