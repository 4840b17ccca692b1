"""The method of a pair: the one that was asked for, or the best supported that fits."""

from typing import Any

import torch
from mmrazor.registry import MODELS

from mmkd.algorithms.build_teacher import METHODS
from mmkd.binding import bind
from mmkd.config.names import nearest
from mmkd.heads.class_map import ClassNames
from mmkd.pairing.methods import Method, ranked, read_methods
from mmkd.pairing.needs import unmet
from mmkd.pairing.pair_text import Request, at_necks, method_distiller
from mmkd.rules.distiller_rules import check_alignment
from mmkd.rules.loss_rules import check_losses
from mmkd.teachers.given_detections import GivenDetections


def choose_method(
    request: Request, student_model: Any, teacher_model: Any, names: ClassNames | None = None
) -> tuple[Method, str]:
    """The method of a pair, the one that was asked for or the best supported, and why.

    Args:
        request: names the method, or none.
        student_model: built.
        teacher_model: built.
        names: of the classes, where these are paired by their names. Defaults to None.

    Raises:
        ValueError: the one that was asked for does not fit the two detectors, or none does.
    """
    methods = read_methods(request.configs)
    by_name = [] if names is None else ['equal classes']  # the build tells where that does not do
    needs = {m.name: [need for need in m.needs if need not in by_name] for m in methods}
    given = isinstance(teacher_model, GivenDetections)
    lacking = {
        m.name: ['more of the teacher than its detections']
        if given and m.name not in METHODS
        else unmet(needs[m.name], student_model, teacher_model)
        for m in methods
    }
    fitting = [m for m in methods if not lacking[m.name]]
    if request.method is not None:
        named = [m for m in methods if m.name == request.method]
        if not named:
            near = nearest(request.method, [m.name for m in methods], cutoff=0.3)
            raise ValueError(
                f'--method must be one of {", ".join(m.name for m in methods)}, but got '
                f'"{request.method}".{f" Did you mean {near[0]}?" if near else ""}'
            )
        if lacking[request.method]:
            raise ValueError(
                f'--method {request.method} needs {"; ".join(lacking[request.method])}. Here '
                f'the needs of {", ".join(m.name for m in fitting)} are met: name one, or leave '
                '--method out to have it chosen.'
            )
        return named[0], 'it was asked for'
    faults = [f'{name} needs {"; ".join(found)}' for name, found in lacking.items() if found]
    for method, why in ranked(fitting, request.configs, student_model, teacher_model):
        distiller = method_distiller(request.configs, method)
        at_necks(distiller, [student_model, teacher_model])
        try:
            with torch.random.fork_rng(devices=[]):
                bound = bind(distiller, student_model, teacher_model, names)
                built = MODELS.build({'_scope_': 'mmrazor', **bound})
            check_alignment(built, student_model, teacher_model)
            check_losses(built, student_model, teacher_model)
        except ValueError as error:
            faults.append(f'{method.name}: {error}')
        else:
            return method, why
    raise ValueError(
        'some method must fit the two detectors, but none does:\n  '
        + '\n  '.join(faults)
        + '\nLet "mmkd label" write what the teacher detects to a file, and name that file as '
        'TEACHER (docs/any_teacher.md): it teaches every student.' * (not given)
    )
