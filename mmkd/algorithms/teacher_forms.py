"""The forms in which a frozen teacher may run, measured on a batch, and the fastest of them."""

import copy
import math
import os
import shutil
import signal
import statistics
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from mmengine.dist import all_gather_object, broadcast_object_list

from mmkd.algorithms.distill_terms import active_losses, distill_terms
from mmkd.algorithms.term_values import reduced
from mmkd.datasets.seeding import seeded
from mmkd.teachers.crop import crop_records
from mmkd.teachers.lean_teacher import LeanTeacher, plain_records

#: How far a distillation term may be from that of the exact teacher.
MOST = 0.01
_ROUNDS, _SECONDS = 7, 10.0  # of measuring; at least one round
#: Compiling is tried if the teacher alone will run for so long, and is given so long.
_WORTH, _PATIENCE = 1200.0, 180.0


@dataclass
class Form:
    """A form and what was found of it.

    Args:
        name: in the log.
        lean: how the teacher runs.
        seconds: of a forward of the teacher; infinite if it does not run.
        deviation: of the distillation term that differs most from the exact teacher's.
        note: why it is out of the question.
    """

    name: str
    lean: LeanTeacher
    seconds: float = math.inf
    deviation: float = math.inf
    note: str = ''


def choose_form(pair: Any, batch: Any, steps: int) -> tuple[dict[str, Any] | None, str]:
    """Measure the forms of a pair's teacher on a batch and choose one.

    The pair, its data and all random numbers are afterwards as they were before. All processes of a
    run call this together, since losses may ask for sums over them; what the first one finds holds
    for all.

    Args:
        pair: a :class:`DetectionDistill` in training, with a running teacher.
        batch: what the data loader gives.
        steps: that the training will take.

    Returns:
        tuple: the arguments of :class:`LeanTeacher` for the fastest form whose terms stay within
        ``MOST`` of the exact teacher's, or None where this batch has nothing to teach; a table for
        the log.
    """
    with _undisturbed(pair), torch.no_grad():
        trial = _Trial(pair, batch)
        if not _of_first_rank(any(trial.expected.values())):
            return None, ''
        forms = trial.measure(steps)
    best = min((f for f in forms if f.deviation <= MOST), key=lambda form: form.seconds)
    rows = [f'{"form":16}{"ms":>10}  largest deviation of a term']
    for form in forms:
        found = form.note or (
            f'{form.deviation:.2g}{"  chosen" if form is best else ""}'
            f'{f": more than {MOST}" if form.deviation > MOST else ""}'
        )
        shown = '-' if math.isinf(form.seconds) else f'{1e3 * form.seconds:.1f}'
        rows.append(f'{form.name:16}{shown:>10}  {found}')
    return asdict(best.lean), '\n'.join(rows)


def take_form(pair: Any, arguments: Mapping[str, Any]) -> None:
    """Let a pair's teacher run in a form for good."""
    lean = LeanTeacher(**arguments)
    source = pair.teacher_source
    if lean != source.lean:
        recorders = pair.distiller.teacher_recorders.recorders.values()
        source.swap(lean, source.in_form(lean, recorders))


def fault_of(pair: Any, batch: Any, arguments: Mapping[str, Any]) -> str:
    """Why a pair's teacher does not run in a form; '' if it does."""
    with _undisturbed(pair), torch.no_grad():
        trial = _Trial(pair, batch)
        form = Form('kept', LeanTeacher(**arguments))
        trial._try(form)
    return form.note


def _of_first_rank(value: Any) -> Any:
    told = [value]
    broadcast_object_list(told)
    return told[0]


def _in_short(error: Exception) -> str:
    lines = str(error).strip().splitlines() or ['']
    return f'{type(error).__name__}: {lines[0][:100]}'


class _Trial:
    """A pair and a batch on which its teacher runs in one form after the other."""

    def __init__(self, pair: Any, batch: Any) -> None:
        self.pair, self.source, self.distiller = pair, pair.teacher_source, pair.distiller
        preprocessor = copy.deepcopy(pair.data_preprocessor)  # it may remember sizes
        data = preprocessor(copy.deepcopy(batch), True)
        self.inputs, self.samples = data['inputs'], data.get('data_samples')
        distiller = self.distiller
        distiller.set_deliveries_override(False)
        with distiller.teacher_recorders, distiller.deliveries:
            self.look()
        distiller.set_deliveries_override(True)
        with distiller.student_recorders, distiller.deliveries:
            pair.student(self.inputs, copy.deepcopy(self.samples), mode='loss')
        plain_records(distiller.student_recorders)
        self.expected = self._terms()

    def look(self) -> None:
        """Let the teacher look at the batch."""
        self.source(self.inputs, copy.deepcopy(self.samples))

    def _terms(self) -> dict[str, float]:
        """The distillation terms of what has been recorded."""
        distiller, source = self.distiller, self.source
        plain_records(distiller.teacher_recorders)
        recorders = distiller.teacher_recorders, distiller.student_recorders
        if source.translation is not None:
            crop_records(*recorders, self.inputs.shape[-2:], source.translation.divisor)
        active = active_losses(distiller, {})
        with seeded('terms of a form'):
            torch.manual_seed(0)  # on a GPU, too
            found = distill_terms(distiller, {}, active, self.inputs, self.pair.loss_watch)
        return {name: float(reduced(found[name])) for name in active}

    def measure(self, steps: int) -> list[Form]:
        """All forms with what was found of them."""
        lean = LeanTeacher()
        exact = Form('exact', self.source.lean, deviation=0.0)
        forms = [exact, Form('channels-last', lean)]
        types = ['bfloat16', *(['float16'] if self.inputs.is_cuda else [])]
        forms += [Form(dtype, LeanTeacher(dtype=dtype)) for dtype in types]
        models = {form.name: self._try(form) for form in forms[1:]}
        self._time(forms, models)
        best = min((f for f in forms if f.deviation <= MOST), key=lambda form: form.seconds)
        compiled = Form('compiled', LeanTeacher(**{**asdict(best.lean), 'compile': True}))
        forms.append(compiled)
        if best.seconds * steps < _WORTH:
            compiled.note = f'not tried: the teacher runs for {best.seconds * steps:.0f} s in all'
        elif not any(map(shutil.which, filter(None, (os.environ.get('CXX'), 'g++', 'clang++')))):
            compiled.note = 'not tried: there is no C++ compiler'
        else:
            models[compiled.name] = self._try(compiled, _PATIENCE)
            self._time([best, compiled], models)
        return forms

    def _try(self, form: Form, seconds: float = 0.0) -> Any:
        """A model in the form, if it runs, within ``seconds`` if they are not 0."""
        model, fault = None, ''
        try:
            with _within(seconds):
                model = self._build(form)
                with self._as(form, model), self.distiller.teacher_recorders:
                    self.look()
        except Exception as error:  # of whatever kind: the exact teacher runs
            fault = _in_short(error)
        form.note = next(filter(None, all_gather_object(fault)), '')
        if form.note:
            return None
        found = self._terms()
        apart = [abs(found[name] / value - 1) for name, value in self.expected.items() if value]
        form.deviation = math.inf if any(map(math.isnan, apart)) else max(apart, default=0.0)
        return model

    def _build(self, form: Form) -> Any:
        recorders = self.distiller.teacher_recorders.recorders.values()
        try:
            return self.source.in_form(form.lean, recorders)
        except ValueError:  # BatchNorm cannot be folded in this model
            form.lean = LeanTeacher(**{**asdict(form.lean), 'fold_bn': False})
            return self.source.in_form(form.lean, recorders)

    @contextmanager
    def _as(self, form: Form, model: Any) -> Iterator[None]:
        if model is None:  # the exact teacher
            yield
            return
        before = self.source.swap(form.lean, model)
        try:
            yield
        finally:
            self.source.swap(before, model)

    def _time(self, forms: list[Form], models: Mapping[str, Any]) -> None:
        """Seconds of a forward: the median over rounds, in which all take turns."""
        forms = [form for form in forms if not form.note]
        seconds: dict[str, list[float]] = {form.name: [] for form in forms}
        start = time.perf_counter()
        for _ in range(_ROUNDS):
            for form in forms:
                with self._as(form, models.get(form.name)):
                    begin = self._now()
                    self.look()
                    seconds[form.name].append(self._now() - begin)
            if self._now() - start > _SECONDS:
                break
        found = [(statistics.median(seconds[form.name]), form.deviation) for form in forms]
        for form, both in zip(forms, _of_first_rank(found), strict=True):
            form.seconds, form.deviation = both

    def _now(self) -> float:
        if self.inputs.is_cuda:
            torch.cuda.synchronize()
        return time.perf_counter()


@contextmanager
def _undisturbed(pair: Any) -> Iterator[None]:
    """Afterwards the pair's modules, buffers and records and all random numbers are as before."""
    kept = [(m, dict(vars(m)), dict(m._buffers)) for m in pair.modules()]
    values = [(buffer, buffer.clone()) for buffer in pair.buffers()]
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    try:
        with torch.random.fork_rng(devices=devices), seeded('forms of a teacher'):
            yield
    finally:
        pair._release_records()
        for module, attributes, buffers in kept:
            vars(module).clear()
            vars(module).update(attributes)
            module._buffers.clear()
            module._buffers.update(buffers)
        with torch.no_grad():
            for buffer, value in values:
                buffer.copy_(value)


@contextmanager
def _within(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in what takes longer, where a process can be told."""
    if not seconds or threading.current_thread() is not threading.main_thread():
        yield
        return

    def late(*_: Any) -> None:
        raise TimeoutError(f'it took more than {seconds:.0f} s')

    previous = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
