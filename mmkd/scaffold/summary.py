"""The page that says what was chosen for a data set, and why."""

import shlex
from typing import NamedTuple

import numpy as np

from mmkd.scaffold.config_text import Plan
from mmkd.scaffold.draw_parts import Parts
from mmkd.scaffold.labelled_images import Source
from mmkd.scaffold.survey import Survey

#: Classes that have a row of their own.
_CLASSES = 30


class Outcome(NamedTuple):
    """What was read, chosen and written.

    Args:
        source: as it was found.
        parts: of it.
        seen: what its training part is like.
        plan: what the configs say.
        share: of the objects that fit the student's priors, 0 to 1.
        rule: what fits, in words.
        method: of the pair.
        why: it is that one.
        notes: what is worth a line.
    """

    source: Source
    parts: Parts
    seen: Survey
    plan: Plan
    share: float
    rule: str
    method: str
    why: str
    notes: list[str]

    def lines(self) -> list[str]:
        """What the command prints."""
        images = ', '.join(f'{len(f)} {part}' for part, f in self.parts.images.items())
        plan, views = self.plan, self.plan.views
        return [
            f'data: {self.source.form}, {_classes(plan)}, {self.seen.counts.total()} training '
            f'objects; {images} images ({self.parts.how})',
            f'input: {views.scale[0]}x{views.scale[1]}, {views.why["input"]}',
            f'priors: {self.share:.0%} of the objects have one that fits ({self.rule})',
            f'student: {plan.student.name}, weights {plan.student.weights}',
            f'teacher: {plan.teacher.name}, weights {plan.teacher.weights}',
            f'schedule: {plan.schedule.epochs} epochs, teacher {plan.schedule.teacher_epochs}, '
            f'batches of {plan.schedule.batch}; {plan.schedule.why}',
            f'method: {self.method}, since {self.why}',
        ]


def _classes(plan: Plan) -> str:
    return f'{len(plan.classes)} {"class" if len(plan.classes) == 1 else "classes"}'


def summary(outcome: Outcome) -> str:
    """The page, in Markdown."""
    plan, seen, views = outcome.plan, outcome.seen, outcome.plan.views
    files = {n: shlex.quote((plan.folder / n).as_posix()) for n in ('teacher.py', 'pair.py')}
    work_dir = shlex.quote((plan.folder / 'work_dirs/compare').as_posix())
    sides = seen.sides(*views.scale, views.keep_ratio)
    small, middle, large = np.quantile(sides, (0.05, 0.5, 0.95))
    zoom = views.zoom
    zoomed = 'none' if zoom == (1.0, 1.0, 0.0) else (
        f'size times {zoom[0]:g} to {zoom[1]:g}, shift up to {zoom[2]:.0%}'
    )  # fmt: skip
    rows = [
        ('parts', outcome.parts.how, 'twins of a training image make a test too easy'),
        ('input', f'{views.scale[0]}x{views.scale[1]}', views.why['input']),
        (
            'aspect',
            'kept, within grey' if views.keep_ratio else 'images are stretched to the input',
            'images of other aspects would be distorted' if views.keep_ratio
            else 'they all have nearly that aspect',
        ),
        ('priors', f'{outcome.share:.0%} of the objects fit', f'fits: {outcome.rule}'),
        ('flips', ', '.join(views.flips) or 'none', views.why['flips']),
        ('colours and light', 'changed' if views.colours else 'kept', views.why['colours']),
        ('zoom and shift', zoomed, f'{views.why["zoom and shift"]}; few objects may leave'),
        ('student', plan.student.name, f'weights: {plan.student.weights}'),
        ('teacher', plan.teacher.name, f'weights: {plan.teacher.weights}'),
        (
            'schedule',
            f'{plan.schedule.epochs} epochs in batches of {plan.schedule.batch}; the teacher '
            f'{plan.schedule.teacher_epochs}',
            plan.schedule.why,
        ),
        ('method', outcome.method, outcome.why),
    ]  # fmt: skip
    images = ', '.join(f'{len(f)} {part}' for part, f in outcome.parts.images.items())
    text = [
        f'# A pair for {_cell(plan.name)}',
        '',
        f'Written by `mmkd new` of data in {outcome.source.form} form: {images} images, '
        f'{_classes(plan)}. The files are yours: change what you know better.',
        '',
        '```bash',
        f'mmkd train {files["teacher.py"]}',
        f'mmkd check {files["pair.py"]}',
        f'mmkd compare {files["pair.py"]} --seeds 0 1 2 --arms baseline kd --work-dir {work_dir}',
        '```',
        '',
        'The last command alone does all three steps, and ends with a report.',
        '',
        '| what | chosen | why |',
        '| --- | --- | --- |',
        *(f'| {what} | {_cell(chosen)} | {_cell(why)} |' for what, chosen, why in rows),
        '',
        f'Of the objects 5 % have a side (square root of the area) below {small:.0f} px of the '
        f'input, half below {middle:.0f}, 95 % below {large:.0f}.',
        '',
        '| class | training objects |',
        '| --- | --- |',
        *(f'| {_cell(name)} | {seen.counts[name]} |' for name in plan.classes[:_CLASSES]),
    ]
    if len(plan.classes) > _CLASSES:
        text.append(f'| and {len(plan.classes) - _CLASSES} more | |')
    text += ['', *_advice(outcome)]
    if outcome.notes:
        text += ['', '## Notes', '', *(f'- {_cell(note)}' for note in outcome.notes)]
    return '\n'.join(text) + '\n'


def _advice(outcome: Outcome) -> list[str]:
    plan = outcome.plan
    lines = ['## What you may know better', '']
    if 'vertical' not in plan.views.flips and 'diagonal' not in plan.views.flips:
        lines.append(
            '- Objects seen from above lie upside down, too: then add '
            "`direction=['horizontal', 'vertical', 'diagonal'], prob=[0.25] * 3` to `RandomFlip`."
        )
    if 'horizontal' in plan.views.flips:
        lines.append('- Text, or a left and a right hand, is another thing in the mirror: take '
                     '`RandomFlip` out.')  # fmt: skip
    if plan.views.colours:
        lines.append('- Where colour tells the classes, take `PhotoMetricDistortion` out.')
    empty = sum(not p.objects for p in outcome.parts.images['train'])
    if empty and plan.recipe.scope == 'mmdet':
        lines.append(
            f'- {empty} training images without an object are not trained on; '
            '`filter_cfg=dict(filter_empty_gt=False)` in the data set of `train_dataloader` '
            'takes them in.'
        )
    tested = outcome.parts.images.get('test') or outcome.parts.images['val']
    objects = sum(not one.crowd for image in tested for one in image.objects)
    if objects < 200:
        lines.append(
            f'- The test has {objects} objects: a difference of a few points will not show. '
            'Annotate more test images.'
        )
    return lines if len(lines) > 2 else []


def _cell(text: object) -> str:
    """Text as it may stand in a cell of a table."""
    return ' '.join(str(text).split()).replace('|', '\\|')
