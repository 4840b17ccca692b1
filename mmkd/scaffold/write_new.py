"""A pair for a data set of one's own: teacher, student, pair, and a page that says why."""

import os
import tempfile
from pathlib import Path
from typing import NamedTuple

import torch
from mmengine.registry import DefaultScope

from mmkd.algorithms.build_detector import build_detector
from mmkd.config.read_config import read_config
from mmkd.fileio.atomic_writes import write_atomic
from mmkd.fileio.check_not_read import check_not_read
from mmkd.pairing.choose_method import choose_method
from mmkd.pairing.pair_text import Request, pair_text
from mmkd.pairing.write_pair import check_pair
from mmkd.scaffold.coco_parts import write_parts
from mmkd.scaffold.coco_source import coco_files
from mmkd.scaffold.config_text import Plan, literal, student_text, teacher_checkpoint, teacher_text
from mmkd.scaffold.draw_parts import Parts, parts_of
from mmkd.scaffold.fit_plan import fit_plan
from mmkd.scaffold.labelled_images import Source
from mmkd.scaffold.new_request import NewRequest
from mmkd.scaffold.read_source import read_source
from mmkd.scaffold.recipes import RECIPES
from mmkd.scaffold.summary import Outcome, summary
from mmkd.scaffold.survey import survey


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
    if there:
        check_not_read(there, coco_files(request.data))
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
    root = write_parts(source, parts, draft)
    seen = survey(parts.images['train'], source.classes)
    if not len(seen.sizes):
        raise ValueError(
            'some training image must have an object of a pixel or more, but none has. Correct '
            'the boxes, or what makes them ignored (iscrowd, difficult).'
        )
    fitted = fit_plan(request, source, parts, seen, root, draft)
    plan = fitted.plan
    texts = {'student.py': student_text(plan), 'teacher.py': teacher_text(plan)}
    for name, text in texts.items():
        (draft / name).write_text(text, encoding='utf-8')
    method, why = _write_pair(request, plan, draft)
    notes = [*source.notes, *_of_twins(parts)]
    checked = check_pair(draft / 'pair.py', False, source.classes)
    # Without a test part one file serves for val and for test.
    notes += {note.partition(': ')[2]: note for note in reversed(checked)}.values()
    notes = [note.replace(str(draft), str(request.out)) for note in [*notes, *fitted.findings]]
    outcome = Outcome(source, parts, seen, plan, fitted.share, fitted.rule, method, why, notes)
    (draft / 'README.md').write_text(summary(outcome), encoding='utf-8')
    return outcome


def _of_twins(parts: Parts) -> list[str]:
    if not parts.twins:
        return []
    has = f'{parts.twins} of {len(parts.images["train"])} training images '
    has += 'has' if parts.twins == 1 else 'have'
    return [
        f'{has} a twin in another part (a copy, or a frame of the same film), which makes figures '
        'too high. To have all split anew, put them into one part.'
    ]


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
        shown=request.out / 'pair.py',
    )
    (draft / 'pair.py').write_text(text, encoding='utf-8')
    return method.name, why


class _Text(str):
    """Python that stands in a config as it is."""

    __slots__ = ()
    __repr__ = str.__str__
