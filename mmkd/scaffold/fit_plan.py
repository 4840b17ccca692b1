"""The plan of a pair: views, priors and schedule that fit a data set."""

import contextlib
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope

from mmkd.algorithms.build_detector import build_detector
from mmkd.config.read_config import read_config
from mmkd.datasets.drawn_objects import DrawnObjects, draw_objects
from mmkd.doctor.check_priors import COLUMNS, MOST_LOST, check_priors
from mmkd.doctor.report import Report, Section
from mmkd.scaffold.config_text import Plan, student_text
from mmkd.scaffold.draw_parts import Parts
from mmkd.scaffold.fitted_priors import (
    ENOUGH,
    IMAGES,
    candidates,
    share_that_fits,
    sizes_of,
)
from mmkd.scaffold.labelled_images import Source
from mmkd.scaffold.new_request import NewRequest
from mmkd.scaffold.recipes import RECIPES, Asked, detectors
from mmkd.scaffold.schedule import choose_schedule
from mmkd.scaffold.survey import Survey
from mmkd.scaffold.views import choose_views, zooms

#: Objects of this side, in pixels of the input, need a level of stride 4.
_FINE = 12.0

#: Of the objects the share that may be smaller than that.
_FEW = 0.1

#: So often the input is made larger where the priors do not fit.
_LARGER = 3


class Fitted(NamedTuple):
    """A plan, and how well it fits.

    Args:
        plan: all that the configs say.
        share: of the objects that fit the student's priors, 0 to 1.
        rule: what fits, in words.
        findings: of the doctor's section on priors.
    """

    plan: Plan
    share: float
    rule: str
    findings: Sequence[str] = ()


def fit_plan(
    request: NewRequest, source: Source, parts: Parts, seen: Survey, root: Path, draft: Path
) -> Fitted:
    """Choose views, priors and schedule, the input larger until the priors fit its objects.

    Args:
        request: what was asked for.
        source: the data set.
        parts: its parts.
        seen: what its training part is like.
        root: the folder from which the names of its images count.
        draft: a folder with the annotations, for the configs that are tried.
    """
    best = _fitted(request, source, parts, seen, root, draft, 0)
    for larger in range(1, _LARGER + 1):
        if best.share >= ENOUGH:
            break
        tried = _fitted(request, source, parts, seen, root, draft, larger)
        if tried.share < best.share + 0.01:
            break
        best = tried
    return best._replace(findings=list(_findings(best.plan, draft)))


def _fitted(
    request: NewRequest,
    source: Source,
    parts: Parts,
    seen: Survey,
    root: Path,
    draft: Path,
    larger: int,
) -> Fitted:
    views = choose_views(seen, request.size, larger)
    strides: tuple[int, ...] = (8, 16, 32)
    small = (seen.sides(*views.scale, views.keep_ratio) < _FINE).mean()
    if small > _FEW and request.head in ('ssd', 'retinanet', 'fcos'):
        strides = (4, 8, 16, 32)

    def planned(zoom: tuple[float, float, float], priors: dict[str, Any]) -> Plan:
        asked = Asked(
            request.head, request.size, request.offline, len(source.classes), views.scale, strides,
            priors,
        )  # fmt: skip
        recipe = RECIPES[request.head]
        count = len(parts.images['train'])
        student, teacher = detectors(asked)
        return Plan(
            _name(request.data), request.out, _named(root, request.out), source.classes,
            tuple(parts.images), source.as_stored, recipe, student, teacher,
            views._replace(zoom=zoom),
            choose_schedule(count, seen.one_instrument, recipe.batch, recipe.epochs),
        )  # fmt: skip

    whole = torch.from_numpy(seen.scaled(*views.scale, views.keep_ratio)).clamp(min=1)
    start = next(candidates(request.head, strides, whole, whole))
    for zoom in zooms(seen, views, request.size):
        dataset = _training_set(_config(planned(zoom, start), draft))
        drawn = draw_objects(dataset, IMAGES, seed=1, seconds=8.0)
        if len(drawn) and max(_lost(drawn), default=0) < 0.8 * MOST_LOST:
            break
    best: Fitted | None = None
    behind = sizes_of(drawn) if len(drawn) else whole
    for priors in candidates(request.head, strides, behind, whole):
        plan = planned(zoom, priors)
        model = _config(plan, draft).model
        share, rule = share_that_fits(model, drawn) if len(drawn) else (0.0, '')
        if best is None or share > best.share:
            best = Fitted(plan, share, rule)
        if share >= ENOUGH:
            break
    assert best is not None  # there is a candidate
    return best


def _findings(plan: Plan, draft: Path) -> Iterator[str]:
    """What the doctor's section on priors has to say."""
    config = _config(plan, draft)
    dataset = _training_set(config)
    with torch.random.fork_rng(devices=[]):
        student = build_detector(config.model)
    section: Section
    with Report('').section('Priors against objects', *COLUMNS) as section:
        check_priors(section, student, dataset, plan.classes, seconds=8.0)
    for finding in section.findings:
        yield f'{finding.found} {finding.change}'


def _config(plan: Plan, draft: Path) -> Config:
    """The student's config as it would be written."""
    path = draft / 'student.py'
    path.write_text(student_text(plan), encoding='utf-8')
    return read_config(path)


def _training_set(config: Config) -> Any:
    with (
        DefaultScope.overwrite_default_scope(config.default_scope),
        contextlib.redirect_stdout(io.StringIO()),  # of pycocotools
    ):
        return DATASETS.build({**config.train_dataloader.dataset, 'serialize_data': False})


def _name(data: Path) -> str:
    """What a data set is called: its folder, not one that is called after what lies in it."""
    path = data.resolve()
    if path.is_file():
        path = path.parent
    return path.parent.name if path.name.lower() in ('annotations', 'labels') else path.name


def _lost(drawn: DrawnObjects) -> list[float]:
    return [lost / max(drawn.before[name], 1) for name, lost in drawn.lost.items()]


def _named(root: Path, out: Path) -> str:
    """A folder as a config in ``out`` names it: from there where both lie below, else whole."""
    here, folder = Path.cwd(), Path(os.path.abspath(out))
    plain = folder.parent.resolve() == folder.parent
    if plain and root.is_relative_to(here) and folder.is_relative_to(here):
        # From the folder above: what is drafted beside `out` finds them in the same place.
        return (
            f'{{{{ fileDirname }}}}/{Path("..", os.path.relpath(root, folder.parent)).as_posix()}/'
        )
    return f'{root.as_posix()}/'
