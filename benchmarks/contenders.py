"""The steps whose seconds run.py compares, each made in a process of its own."""

import tempfile
from collections.abc import Callable
from typing import Any

from measured_pairs import CLASSES, PAIRS, build, make_batch
from steps import loss_stepper, stepper, with_options

# isort: split
from cached_teacher import cached

from mmkd.runner.kept_memory import keep_memory

#: What a run of the pair changes in its config.
FORMS: dict[str, dict[str, Any]] = {
    'exact': {},
    'shipped': dict(lean_teacher={}),
    'fast': dict(lean_teacher=dict(dtype='bfloat16')),
    'both': dict(lean_teacher=dict(dtype='bfloat16')),
    'cached': {},
}


def make(what: str, name: str, images: int, size: int, device: str) -> Callable[[], Any]:
    """The step of a contender; those of mmkd keep memory, as its runner does."""
    batch = make_batch(name, size, images, PAIRS[name][3], CLASSES[name])
    if what == 'mmdet':
        return stepper(build(name, device).student, batch)
    if what == 'mmrazor':
        return stepper(build(name, device, 'SingleTeacherDistill'), batch)
    keep_memory()
    if what == 'student':
        return stepper(with_options(build(name, device).student), batch, fused=True)
    if what == 'losses':
        return loss_stepper(build(name, device), batch)
    pair = build(name, device, **FORMS[what])
    if what == 'exact':
        return stepper(pair, batch)
    if what == 'cached':
        with tempfile.TemporaryDirectory() as folder:
            cached(pair, batch, folder)
    return stepper(with_options(pair), batch, fused=True, amp=what == 'both')
