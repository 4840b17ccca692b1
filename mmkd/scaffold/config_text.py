"""The text of configs: short, in the order in which one reads."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mmkd.pairing.pair_text import in_docstring
from mmkd.scaffold.recipes import Detector, Recipe
from mmkd.scaffold.schedule import Schedule
from mmkd.scaffold.views import Views, test_pipeline, train_pipeline

_WIDTH = 100


class Plan(NamedTuple):
    """All that the configs of a pair say.

    Args:
        name: of the data set.
        folder: that the files are for, as it was given.
        images: where the images lie, as a config names it, with a slash at the end.
        classes: their names.
        parts: names of the annotation files without suffix: train, val, maybe test.
        as_stored: whether images are taken without their EXIF orientation.
        recipe: of the head.
        student: the student.
        teacher: the teacher.
        views: of the images.
        schedule: of the training.
    """

    name: str
    folder: Path
    images: str
    classes: tuple[str, ...]
    parts: tuple[str, ...]
    as_stored: bool
    recipe: Recipe
    student: Detector
    teacher: Detector
    views: Views
    schedule: Schedule


def student_text(plan: Plan) -> str:
    """The student's config: the data, the views, the schedule; a detector on its own."""
    recipe, schedule = plan.recipe, plan.schedule
    scope = recipe.scope
    filters = ['        filter_cfg=dict(filter_empty_gt=False, min_size=0),'] * (scope == 'mmyolo')
    test = 'test' if 'test' in plan.parts else 'val'
    lines = [
        *_opening(f'{plan.student.name} for {_count(plan.classes)} of {plan.name}: the student.',
                  plan.folder / 'student.py'),
        _assigned('_base_', list(recipe.bases) if len(recipe.bases) > 1 else recipe.bases[0]),
        "work_dir = '{{ fileDirname }}/work_dirs/student'",
        '',
        _assigned('classes', plan.classes),
        f'images = {plan.images!r}',
        "annotations = '{{ fileDirname }}/annotations/'",
        '',
        _assigned('model', plan.student.model),
        '',
        f'# The input has {plan.views.scale[0]}x{plan.views.scale[1]} pixels (width, height).',
        _assigned('train_pipeline', train_pipeline(plan.views, scope, plan.as_stored)),
        _assigned('test_pipeline', test_pipeline(plan.views, scope, plan.as_stored)),
        "dataset = dict(data_root='', data_prefix=dict(img=images), "
        'metainfo=dict(classes=classes))',
        'train_dataloader = dict(',
        f'    batch_size={schedule.batch},',
        '    num_workers=0,',
        *(['    persistent_workers=False,', '    drop_last=False,'] if scope == 'mmyolo' else []),
        '    dataset=dict(',
        '        **dataset,',
        *filters,
        "        ann_file=annotations + 'train.json',",
        '        pipeline=train_pipeline,',
        '    ),',
        ')',
        *_loader('val', 'val', scope),
        *(['test_dataloader = val_dataloader'] if test == 'val' else _loader('test', test, scope)),
        "val_evaluator = dict(ann_file=annotations + 'val.json')",
        f"test_evaluator = dict(ann_file=annotations + '{test}.json')",
        '',
        *_schedule(schedule.epochs, schedule.warm_up, plan.student.rate * schedule.rate),
    ]  # fmt: skip
    return '\n'.join(lines) + '\n'


def teacher_text(plan: Plan) -> str:
    """The teacher's config: what differs from the student's."""
    schedule = plan.schedule
    lines = [
        *_opening(f'{plan.teacher.name} for {_count(plan.classes)} of {plan.name}: the teacher.',
                  plan.folder / 'teacher.py'),
        "_base_ = './student.py'",
        "work_dir = '{{ fileDirname }}/work_dirs/teacher'",
        '',
        _assigned('model', _differing(plan.teacher.model, plan.student.model)),
        *_schedule(schedule.teacher_epochs, schedule.warm_up, plan.teacher.rate * schedule.rate),
    ]  # fmt: skip
    return '\n'.join(lines) + '\n'


def teacher_checkpoint(plan: Plan) -> str:
    """Where the teacher's last weights will lie, as the pair's config names it."""
    return f'{{{{ fileDirname }}}}/work_dirs/teacher/epoch_{plan.schedule.teacher_epochs}.pth'


def _opening(title: str, path: Path) -> list[str]:
    return [
        f'"""{in_docstring(title)}',
        '',
        f'mmkd train {in_docstring(shlex.quote(path.as_posix()))}',
        'Expected: not run. README.md beside it says why it is as it is.',
        '"""',
        '',
    ]


def _differing(model: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    """What a config must say that inherits ``base``."""
    found = {}
    for key, value in model.items():
        inner = base.get(key)
        if isinstance(value, Mapping) and isinstance(inner, Mapping):
            value = _differing(value, inner)
            if not value:
                continue
        elif key in base and inner == value:
            continue
        found[key] = value
    return found


def _count(classes: Sequence[str]) -> str:
    return f'{len(classes)} {"class" if len(classes) == 1 else "classes"}'


def _loader(phase: str, part: str, scope: str) -> list[str]:
    workers = ['    num_workers=0,', '    persistent_workers=False,'] if scope == 'mmyolo' else []
    inside = (
        f"dataset=dict(**dataset, ann_file=annotations + '{part}.json', pipeline=test_pipeline)"
    )
    if not workers:
        return [f'{phase}_dataloader = dict(', f'    {inside}', ')']
    return [f'{phase}_dataloader = dict(', *workers, f'    {inside},', ')']


def _schedule(epochs: int, warm_up: int, rate: float) -> list[str]:
    return [
        f'max_epochs = {epochs}',
        'train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)',
        f'optim_wrapper = dict(optimizer=dict(lr={float(f"{rate:.2g}")}))',
        'param_scheduler = [',
        f"    dict(type='LinearLR', start_factor=0.05, by_epoch=False, end={warm_up}),",
        '    dict(',
        "        type='CosineAnnealingLR',",
        '        T_max=max_epochs,',
        '        end=max_epochs,',
        '        eta_min=1e-5,',
        '        convert_to_iter_based=True,',
        '    ),',
        ']',
    ]


def _assigned(name: str, value: Any) -> str:
    return f'{name} = {literal(value, len(name) + 3)}'


def literal(value: Any, used: int = 0, indent: int = 0) -> str:
    """A value as a config has it: ``dict(...)`` calls, broken where a line would be too long.

    >>> print(literal(dict(a=[dict(b=(1,))])))
    dict(a=[dict(b=(1,))])
    """
    flat = _flat(value)
    if used + indent + len(flat) <= _WIDTH - 1:
        return flat
    if isinstance(value, Mapping):
        items, (start, end) = [(f'{key}=', item) for key, item in value.items()], ('dict(', ')')
    elif isinstance(value, list | tuple):
        items = [('', item) for item in value]
        start, end = '[]' if isinstance(value, list) else '()'
    else:
        return flat
    inner = ' ' * (indent + 4)
    lines = [f'{inner}{key}{literal(item, len(key) + 1, indent + 4)},' for key, item in items]
    return '\n'.join([start, *lines, ' ' * indent + end])


def _flat(value: Any) -> str:
    if isinstance(value, Mapping):
        return f'dict({", ".join(f"{key}={_flat(item)}" for key, item in value.items())})'
    if isinstance(value, list):
        return f'[{", ".join(map(_flat, value))}]'
    if isinstance(value, tuple):
        return f'({", ".join(map(_flat, value))}{"," * (len(value) == 1)})'
    return repr(value)
