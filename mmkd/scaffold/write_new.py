"""A pair for a data set of one's own: teacher, student, pair, and a page that says why."""

import contextlib
import io
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
from mmkd.fileio.atomic_writes import write_atomic
from mmkd.pairing.pair_text import Request, pair_text
from mmkd.pairing.write_pair import check_pair, choose_method
from mmkd.scaffold.config_text import Plan, literal, student_text, teacher_checkpoint, teacher_text
from mmkd.scaffold.draw_parts import Parts, parts_of
from mmkd.scaffold.fitted_priors import (
    ENOUGH,
    PICTURES,
    candidates,
    share_that_fits,
    sizes_of,
)
from mmkd.scaffold.pictures import Picture, Source
from mmkd.scaffold.read_source import read_source
from mmkd.scaffold.recipes import RECIPES, Asked, detectors
from mmkd.scaffold.schedule import choose_schedule
from mmkd.scaffold.summary import Outcome, summary
from mmkd.scaffold.survey import Survey, survey
from mmkd.scaffold.views import Views, choose_views, zooms

#: Objects of this side, in pixels of the input, need a level of stride 4.
_FINE = 12.0

#: Of the objects the share that may be smaller than that.
_FEW = 0.1

#: So often the input is made larger where the priors do not fit.
_LARGER = 3


@dataclass(frozen=True)
class NewRequest:
    """What a new pair is asked for with.

    Args:
        data: see :func:`mmkd.scaffold.read_source.read_source`.
        out: the folder to write.
        configs: the folder of the configs that come with mmkd.
        images: where the pictures lie. Defaults to None: with the data.
        size: 'small' or 'medium'.
        head: a key of :data:`mmkd.scaffold.recipes.RECIPES`.
        offline: without weights of others.
        force: overwrite files that are there. Defaults to False.
    """

    data: Path
    out: Path
    configs: Path
    images: Path | None = None
    size: str = 'small'
    head: str = 'ssd'
    offline: bool = False
    force: bool = False


class WrittenNew(NamedTuple):
    """What was written, and what is worth a line of it."""

    files: list[Path]
    lines: list[str]
    notes: list[str]


def write_new(request: NewRequest) -> WrittenNew:
    """Write the configs of a pair that fits a data set, its parts and a summary.

    All is checked as it would be before a run; where that fails nothing is left.

    Raises:
        FileExistsError: a file is there.
        FileNotFoundError, ValueError: the data do not do; the message says what and what to do.
    """
    out = request.out
    if out.exists() and not out.is_dir():
        raise FileExistsError(f'--out must be a folder, but "{out}" is a file. Name another.')
    names = ['student.py', 'teacher.py', 'pair.py', 'README.md']
    names += [f'annotations/{part}.json' for part in ('train', 'val', 'test')]
    there = [str(out / name) for name in names if (out / name).exists()]
    if there and not request.force:
        raise FileExistsError(
            f'a file must not be overwritten, but {", ".join(there)} '
            f'{"exists" if len(there) == 1 else "exist"}. Name another --out, or --force to '
            'overwrite.'
        )
    _check_installed(request.head)
    source = read_source(request.data, request.images)
    parts = parts_of(source)
    above = Path(os.path.abspath(out)).parent
    above.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix='.mmkd-new-', dir=above) as folder:
        draft = Path(folder)
        try:
            outcome = _draft(request, source, parts, draft)
        except (OSError, TypeError, ValueError) as error:
            told = str(error).replace(str(draft), str(out))
            raise (type(error) if type(error) in _PLAIN else ValueError)(told) from error
        written = sorted(path for path in draft.rglob('*') if path.is_file())
        files = [out / path.relative_to(draft) for path in written]
        for path, file in zip(written, files, strict=True):
            write_atomic(file, path.read_bytes())
    return WrittenNew(files, outcome.lines(), outcome.notes)


_PLAIN = (FileExistsError, FileNotFoundError, OSError, TypeError, ValueError)


def _check_installed(head: str) -> None:
    if RECIPES[head].scope == 'mmyolo':
        try:
            import mmyolo  # noqa: F401
        except ImportError:
            raise ValueError(
                f'--head {head} needs MMYOLO, which is not installed. Install mmkd[yolo], or name '
                'another head.'
            ) from None


def _draft(request: NewRequest, source: Source, parts: Parts, draft: Path) -> Outcome:
    root = _write_parts(source, parts, draft)
    seen = survey(parts.pictures['train'], source.classes)
    if not len(seen.sizes):
        raise ValueError(
            'some training picture must have an object of a pixel or more, but none has. Correct '
            'the boxes, or what makes them ignored (iscrowd, difficult).'
        )
    found: tuple[Plan, float, str, list[str]] | None = None
    for larger in range(_LARGER + 1):
        tried = _fitted(request, source, parts, seen, root, draft, larger)
        if found is None or tried[1] > found[1] + 0.01:
            found = tried
        if found[1] >= ENOUGH or found is not tried:
            break
    assert found is not None
    plan, share, rule, findings = found
    texts = {'student.py': student_text(plan), 'teacher.py': teacher_text(plan)}
    for name, text in texts.items():
        (draft / name).write_text(text, encoding='utf-8')
    method, why = _write_pair(request, plan, draft)
    notes = [*source.notes, *check_pair(draft / 'pair.py', False, source.classes), *findings]
    outcome = Outcome(request.data, source, parts, seen, plan, share, rule, method, why, notes)
    (draft / 'README.md').write_text(summary(outcome), encoding='utf-8')
    return outcome


def _fitted(
    request: NewRequest,
    source: Source,
    parts: Parts,
    seen: Survey,
    root: Path,
    draft: Path,
    larger: int,
) -> tuple[Plan, float, str, list[str]]:
    """The plan for an input of a size, the share of its objects that fit, the rule, findings."""
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
        pictures = len(parts.pictures['train'])
        student, teacher = detectors(asked)
        return Plan(
            _name(request.data), request.out, _named(root, request.out), source.classes,
            tuple(parts.pictures), source.as_stored, recipe, student, teacher,
            views._replace(zoom=zoom),
            choose_schedule(pictures, seen.one_instrument, recipe.batch, recipe.epochs),
        )  # fmt: skip

    whole = torch.from_numpy(seen.scaled(*views.scale, views.keep_ratio)).clamp(min=1)
    start = candidates(request.head, strides, whole, whole)[0]
    for zoom in zooms(seen, views, request.size):
        dataset = _training_set(_config(planned(zoom, start), draft))
        drawn = draw_objects(dataset, PICTURES, seed=1, seconds=8.0)
        if len(drawn) and max(_lost(drawn), default=0) < 0.8 * MOST_LOST:
            break
    best: tuple[Plan, float, str] | None = None
    behind = sizes_of(drawn) if len(drawn) else whole
    for priors in candidates(request.head, strides, behind, whole):
        plan = planned(zoom, priors)
        model = _config(plan, draft).model
        share, rule = share_that_fits(model, drawn) if len(drawn) else (0.0, '')
        if best is None or share > best[1]:
            best = plan, share, rule
        if share >= ENOUGH:
            break
    assert best is not None
    return *best, list(_findings(best[0], draft))


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
        return DATASETS.build(config.train_dataloader.dataset)


def _name(data: Path) -> str:
    """What a data set is called: its folder, not one that is called after what lies in it."""
    path = data.resolve()
    if path.is_file():
        path = path.parent
    return path.parent.name if path.name.lower() in ('annotations', 'labels') else path.name


def _lost(drawn: DrawnObjects) -> list[float]:
    return [lost / max(drawn.before[name], 1) for name, lost in drawn.lost.items()]


def _write_parts(source: Source, parts: Parts, draft: Path) -> Path:
    """The parts as COCO JSON; the folder from which the names of the pictures count."""
    every = [picture.path for found in parts.pictures.values() for picture in found]
    root = Path(os.path.commonpath([os.path.abspath(path.parent) for path in every]))
    for part, pictures in parts.pictures.items():
        content = _coco(pictures, source.classes, root)
        write_atomic(draft / f'annotations/{part}.json', json.dumps(content).encode())
    return root


def _coco(pictures: Sequence[Picture], classes: Sequence[str], root: Path) -> dict[str, Any]:
    labels = {name: i + 1 for i, name in enumerate(classes)}
    images, annotations = [], []
    for i, picture in enumerate(pictures, 1):
        width, height = picture.size
        name = os.path.relpath(os.path.abspath(picture.path), root).replace(os.sep, '/')
        images.append(dict(id=i, file_name=name, width=width, height=height))
        for one in picture.objects:
            x1, y1, x2, y2 = (round(float(value), 2) for value in one.box)
            if one.name in labels:
                w, h = round(x2 - x1, 2), round(y2 - y1, 2)
                annotations.append(
                    dict(
                        id=len(annotations) + 1,
                        image_id=i,
                        category_id=labels[one.name],
                        bbox=[x1, y1, w, h],
                        area=round(w * h, 2),
                        iscrowd=int(one.crowd),
                    )
                )
    categories = [dict(id=label, name=name) for name, label in labels.items()]
    return dict(images=images, annotations=annotations, categories=categories)


def _named(root: Path, out: Path) -> str:
    """A folder as a config in ``out`` names it: from there where both lie below, else whole."""
    here, folder = Path.cwd(), Path(os.path.abspath(out))
    plain = folder.parent.resolve() == folder.parent
    if plain and root.is_relative_to(here) and folder.is_relative_to(here):
        return f'{{{{ fileDirname }}}}/{Path(os.path.relpath(root, folder)).as_posix()}/'
    return f'{root.as_posix()}/'


def _write_pair(request: NewRequest, plan: Plan, draft: Path) -> tuple[str, str]:
    """Write the pair's config; the method, and why it is that one."""
    asked = Request(
        str(draft / 'teacher.py'),
        str(draft / 'student.py'),
        draft / 'pair.py',
        request.configs,
        method=plan.recipe.method,
    )
    models = []
    for name in ('student', 'teacher'):
        config = read_config(draft / f'{name}.py')
        with (
            DefaultScope.overwrite_default_scope(plan.recipe.scope),
            torch.random.fork_rng(devices=[]),
        ):
            models.append(build_detector(config.model))
    method, why = choose_method(asked, *models)
    if plan.recipe.method is not None:
        why = f'it gained most here with such heads ({method.gained()})'
    text = pair_text(
        asked,
        method,
        None,
        models,
        '{{ fileDirname }}/teacher.py',
        teacher_checkpoint(plan),
        own=["work_dir = '{{ fileDirname }}/work_dirs/pair'", ''],
        settings={'balance': _Text(literal(plan.recipe.balance))} if plan.recipe.balance else None,
    )
    text = text.replace(draft.as_posix(), request.out.as_posix())
    (draft / 'pair.py').write_text(text, encoding='utf-8')
    return method.name, why


class _Text(str):
    """Python that stands in a config as it is."""

    __slots__ = ()
    __repr__ = str.__str__
