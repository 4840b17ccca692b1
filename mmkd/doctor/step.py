"""One training step, watched: shapes, losses, gradients, statistics."""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mmkd.algorithms.detection_distill import DetectionDistill
from mmkd.algorithms.gradient_balance import flat_gradient
from mmkd.algorithms.loss_watch import excused
from mmkd.algorithms.term_statistics import meanings
from mmkd.algorithms.term_values import reduced
from mmkd.doctor.report import Section
from mmkd.heads import Predictions
from mmkd.losses.log_keys import DISTILL, STUDENT, is_term
from mmkd.losses.statistic import Statistic
from mmkd.recorders.predictions_recorder import HeadRun

#: Outside of these ratios of gradient norms, a term has no or all the say.
LEAST, MOST = 0.001, 10.0


@dataclass
class Step:
    """What one forward of a training batch showed.

    Args:
        inputs: the student's normalised batch (B, C, H, W).
        data_samples: as the data preprocessor gave them.
        losses: what ``DetectionDistill.loss`` returned.
        records: by 'student' or 'teacher' and recorder, the shape of each record.
        arguments: by distillation loss and argument, what it was called with.
        error: what stopped the step.
    """

    inputs: Tensor
    data_samples: Any
    losses: dict[str, Any] = field(default_factory=dict)
    records: dict[tuple[str, str], str] = field(default_factory=dict)
    arguments: dict[str, dict[str, Any]] = field(default_factory=dict)
    error: Exception | None = None

    @property
    def terms(self) -> dict[str, Tensor]:
        """The back-propagated terms, as mmengine reduces them."""
        return {key: reduced(value) for key, value in self.losses.items() if is_term(key)}


def take_step(pair: DetectionDistill, batch: Mapping[str, Any]) -> Step:
    """Run the forward of a training step on a collated batch, keeping what passes."""
    pair.train()
    data = pair.data_preprocessor(copy.deepcopy(batch), training=True)
    step = Step(data['inputs'], copy.deepcopy(data['data_samples']))
    pair.loss_watch.suspects = set(pair.distiller.distill_losses)
    with _watched(pair.distiller, step):
        try:
            step.losses = pair(**data, mode='loss')
        except Exception as error:
            step.error = error
    return step


@contextmanager
def _watched(distiller: Any, step: Step) -> Iterator[None]:
    compute = distiller.compute_distill_losses

    def watch() -> dict[str, Any]:
        for side in ('student', 'teacher'):
            for name, recorder in getattr(distiller, f'{side}_recorders').recorders.items():
                found = [shapes(record) for record in recorder.data_buffer]
                step.records[side, name] = ' and '.join(found) or 'nothing'
        return compute()

    def keep(name: str) -> Callable[..., Any]:
        return lambda module, args, kwargs: step.arguments.update({name: kwargs})

    hooks = [
        module.register_forward_pre_hook(keep(name), with_kwargs=True, prepend=True)
        for name, module in distiller.distill_losses.items()
    ]
    distiller.compute_distill_losses = watch
    try:
        yield
    finally:
        del distiller.compute_distill_losses
        for hook in hooks:
            hook.remove()


def shapes(value: Any) -> str:
    """The shapes of tensors, in whatever holds them.

    >>> shapes([torch.zeros(2, 3), (torch.zeros(1), None)])
    '2x3, (1, NoneType)'
    >>> shapes(Predictions(torch.zeros(2, 84, 3), torch.zeros(2, 84, 4)))
    '2 x 84 rows, 3 classes'
    """
    if isinstance(value, HeadRun):
        value = value.read()
    if isinstance(value, Predictions):
        images, rows, classes = value.log_prob.shape
        return f'{images} x {rows} rows, {classes} classes'
    if isinstance(value, Tensor):
        return 'x'.join(map(str, value.shape)) or 'scalar'
    if isinstance(value, Mapping):
        return ', '.join(f'{key}: {_inner(item)}' for key, item in value.items())
    if isinstance(value, list | tuple):
        kinds = {type(item) for item in value}
        if len(value) > 1 and len(kinds) == 1 and not kinds & {Tensor, list, tuple}:
            return f'{len(value)} {type(value[0]).__name__}'
        return ', '.join(map(_inner, value))
    return type(value).__name__


def _inner(value: Any) -> str:
    nested = isinstance(value, Mapping | list | tuple) and len(value) > 1
    return f'({shapes(value)})' if nested else shapes(value)


def check_records(section: Section, step: Step) -> None:
    """The shapes of every recorder."""
    for (side, name), shape in step.records.items():
        section.rows.append([name, side, shape])
        if shape == 'nothing':
            section.warn(
                f'{side}_recorders.{name} recorded nothing.',
                'Name a source that the forward passes, or take the recorder out.',
            )


def check_mappings(section: Section, pair: DetectionDistill, step: Step) -> None:
    """What every loss was called with, student against teacher."""
    for name, mapping in getattr(pair.distiller, 'loss_forward_mappings', {}).items():
        for argument, value in step.arguments.get(name, {}).items():
            record = mapping.get(argument, {})
            side = 'student' if record.get('from_student') else 'teacher'
            section.rows.append(
                [
                    name,
                    argument,
                    side,
                    record.get('recorder'),
                    record.get('connector'),
                    shapes(value),
                ]
            )
    if step.error is not None:
        section.notes.append('The step stopped here: gradients, time and pictures are left out.')
        raise step.error


def check_losses(
    section: Section, pair: DetectionDistill, step: Step, teaches: bool = True
) -> None:
    """Each term's value, and the norm of its gradient at the student against the task's.

    Args:
        section: gets rows of term, value, gradient, ratio, weight.
        pair: the built pair.
        step: its first step.
        teaches: whether the teacher is trained; the ratio of another says nothing of a weight.
    """
    student = [p for p in pair.student.parameters() if p.requires_grad]
    terms = step.terms
    task: list[Tensor] = [value for key, value in terms.items() if key.startswith(STUDENT)]
    task_norm = _gradient_norm(sum(task), student) if task else None
    if task_norm is None:
        section.notes.append('Ratios are left out: the student has no loss of its own.')
    elif not teaches:
        section.notes.append('Ratios are not judged: the teacher is untrained.')
    modules = dict(pair.distiller.distill_losses.items())
    for key, value in terms.items():
        norm, name = _gradient_norm(value, student), key.removeprefix(DISTILL)
        weight = getattr(modules.get(name), 'loss_weight', None)
        ratio = norm / task_norm if task_norm else None
        section.rows.append([key, value.item(), norm, ratio, weight])
        if not torch.isfinite(value) or not norm < float('inf'):
            _not_finite(section, key, value, norm, step.arguments.get(name))
        elif (
            key.startswith(DISTILL)
            and weight != 0
            and not excused(modules[name])
            and pair.loss_watch.found.get(name) != 'excused'
        ):
            _judge(section, key, value.item(), norm, ratio if teaches else None, weight)
    if task and len(task) > 1:
        section.rows.append(
            ['all of the student', torch.stack(task).sum().item(), task_norm, 1.0, None]
        )


def _not_finite(
    section: Section, key: str, value: Tensor, norm: float, arguments: Mapping[str, Any] | None
) -> None:
    bad = [name for name, item in (arguments or {}).items() if not _finite(item)]
    section.error(
        f'{key} is {value.item():.4g} and its gradient norm {norm:.4g}: '
        + (f'not finite in {", ".join(bad)}.' if bad else 'what it was given is finite.'),
        'Look at the weights and the preprocessing of the model that the argument comes from.'
        if bad
        else 'Look for a division by 0 or a logarithm of 0 in this loss, and at its settings.',
    )


def _judge(
    section: Section, key: str, value: float, norm: float, ratio: float | None, weight: Any
) -> None:
    if norm == 0:
        section.error(
            f'{key} is {value:.4g} and gives the student no gradient.',
            'Map its first argument to a record of the student (from_student=True), the other to '
            "the teacher's, and see that they are not the same maps; loss_weight=0 if it is meant.",
        )
    elif ratio is not None and not LEAST <= ratio <= MOST:
        section.warn(
            f"the gradient of {key} is {ratio:.3g} times that of the student's own losses.",
            f'loss_weight={weight / ratio:.2g} instead of {weight} would make them equal.'
            if isinstance(weight, int | float)
            else 'Scale the loss.',
        )


def _gradient_norm(value: Any, parameters: list[Tensor]) -> float:
    return flat_gradient(value, parameters).norm().item()


def _finite(value: Any) -> bool:
    if isinstance(value, Tensor):
        return bool(torch.isfinite(value).all())
    if isinstance(value, Predictions):
        return _finite([value.log_prob, value.boxes])
    return all(map(_finite, value)) if isinstance(value, list | tuple) else True


def check_parameters(
    section: Section, pair: DetectionDistill, step: Step, config: Mapping[str, Any]
) -> None:
    """Trainable parameters that no term reaches.

    Some of mmdet's own detectors have such: where the run expects them, that is well.
    """
    named = [(name, p) for name, p in pair.named_parameters() if p.requires_grad]
    total: Any = sum(step.terms.values())
    found = torch.autograd.grad(total, [p for _, p in named], retain_graph=True, allow_unused=True)
    lost = [name for (name, _), grad in zip(named, found, strict=True) if grad is None]
    section.rows.append(['trainable', len(named)])
    section.rows.append(['without gradient', len(lost)])
    if lost and not config.get('find_unused_parameters'):
        section.warn(
            f'{len(lost)} parameters get no gradient: {", ".join(lost[:5])}'
            + (f' and {len(lost) - 5} more.' if len(lost) > 5 else '.'),
            'Take out or freeze (requires_grad=False) what no loss reaches; distributed training '
            'needs find_unused_parameters=True otherwise.',
        )


def check_statistics(
    section: Section, pair: DetectionDistill, step: Step, teaches: bool = True
) -> None:
    """What the losses log beside their value, as they themselves explain it."""
    known = meanings(pair.distiller, pair.balance)
    for key, value in step.losses.items():
        if is_term(key) or not key.startswith(DISTILL):
            continue
        meaning, remedy = known.get(key, Statistic(''))
        number = reduced(value).item()
        section.rows.append([key, number, meaning])
        if remedy and number == 0 and teaches:
            section.warn(f'{key} is 0 on this batch.', remedy)
    if not section.rows:
        section.notes.append('None: no loss of this pair logs any.')
