"""Which pairs of two kinds of detectors work, from their configs to a prediction.

    python benchmarks/pairs.py --log docs/matrix.json --write docs/matrix.md [--jobs 2]

Every kind teaches every kind at reduced size (small_detectors.py). A pair goes through what a user
does: "mmkd pair" writes it and picks the method, "mmkd check" examines it, a training takes two
steps and leaves the student, mmdet loads that and predicts on an image. A stage that fails is noted
with the first line of its error. Pairs in the log are not run again, unless they failed; the ring
(each kind teaches the next) comes first, then the other pairs in a random order.
"""

import argparse
import contextlib
import io
import itertools
import json
import logging
import os
import random
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from multiprocessing import get_context
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from small_detectors import KINDS, small_config, write_config, write_data, write_weights

# isort: split
import torch
from mmdet.apis import inference_detector, init_detector
from mmengine.config import Config

from mmkd.config.config_errors import ConfigError
from mmkd.doctor import examine
from mmkd.fileio.atomic_writes import write_atomic
from mmkd.pairing import Request, write_pair
from mmkd.runner.train import train
from mmkd_cli.shipped import shipped

STAGES = ('pair', 'check', 'train', 'predict')
DONE = 'done'


@cache
def _files(folder: Path, kind: str, width: int) -> tuple[Path, Path]:
    """The config of a kind at a width, and its random weights."""
    name = f'{"".join(c if c.isalnum() else "_" for c in kind)}_{width}'
    config, weights = folder / f'{name}.py', folder / f'{name}.pth'
    if not weights.exists():
        if not (folder / 'data').exists():
            write_data(folder / 'data')
        small = small_config(kind, folder / 'data', width)
        write_config(small, config)
        write_weights(small, weights)
    return config, weights


def run_pair(folder: Path, teacher: str, student: str) -> dict:
    """Take a pair through all stages.

    Args:
        folder: where detectors of earlier pairs are; what belongs to this pair alone is removed.
        teacher: its kind.
        student: likewise.

    Returns:
        dict: teacher, student, method, seconds of CPU time, 'stage' that failed or 'done', 'error'.
    """
    start = time.process_time()
    row = dict(teacher=teacher, student=student, method=None, stage=STAGES[0], error=None)
    with tempfile.TemporaryDirectory(dir=folder) as own:
        try:
            for stage, method in _stages(folder, Path(own), teacher, student):
                row.update(stage=stage, method=method)
        except Exception as error:
            row['error'] = f'{type(error).__name__}: {str(error).strip()}'.splitlines()[0][:300]
    row['seconds'] = round(time.process_time() - start, 2)
    return row


def _stages(folder: Path, own: Path, teacher: str, student: str) -> Iterator[tuple[str, str]]:
    """The stages of a pair; each is named as it begins."""
    source, weights = _files(folder, teacher, 16)
    target, _ = _files(folder, student, 8)
    out = own / 'pair.py'
    written = write_pair(
        Request(str(source), str(target), out, shipped('configs'), teacher_ckpt=str(weights))
    )
    yield 'check', written.method
    report = examine(Config.fromfile(out), images=0)
    errors = [f.found for f in report.findings if f.severity == 'error']
    if errors:
        raise ConfigError(errors[0])
    yield 'train', written.method
    config = Config.fromfile(out)
    config.work_dir = str(own / 'work')
    train(config)
    yield 'predict', written.method
    model = init_detector(str(own / 'work/student.py'), str(own / 'work/student.pth'), device='cpu')
    image = next((folder / 'data/JPEGImages').glob('val*.jpg'))
    found = inference_detector(model, str(image)).pred_instances
    if not (found.bboxes.isfinite().all() and len(found.bboxes) == len(found.scores)):
        raise ValueError('boxes must be finite')
    yield DONE, written.method


def ordered(kinds: list[str]) -> list[tuple[str, str]]:
    """All pairs (teacher, student): the ring first, then the others in a random order."""
    ring = list(zip(kinds, [*kinds[1:], kinds[0]], strict=True))
    rest = [pair for pair in itertools.product(kinds, kinds) if pair not in set(ring)]
    random.Random(0).shuffle(rest)
    return ring + rest


def quiet() -> None:
    """One thread a process, and nothing on the screen but this file's own lines."""
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    warnings.simplefilter('ignore')


def _run_quietly(folder: Path, teacher: str, student: str) -> dict:
    quiet()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return run_pair(folder, teacher, student)


def read_log(path: Path) -> dict[tuple[str, str], dict]:
    rows = json.loads(path.read_text())['pairs'] if path.exists() else []
    return {(row['teacher'], row['student']): row for row in rows}


def write_log(path: Path, rows: dict[tuple[str, str], dict]) -> None:
    lines = ',\n'.join(json.dumps(rows[key]) for key in sorted(rows))
    write_atomic(path, f'{{"pairs": [\n{lines}\n]}}\n'.encode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--log', type=Path, required=True, help='what was found; resumed from')
    parser.add_argument('--write', type=Path, help='the page that shows it')
    parser.add_argument('--kinds', nargs='*', choices=KINDS, default=list(KINDS))
    parser.add_argument('--pairs', type=int, help='at most so many; defaults to all')
    parser.add_argument('--jobs', type=int, default=1, help='processes')
    parser.add_argument('--minutes', type=float, default=1e9, help='start no pair after these')
    args = parser.parse_args()
    rows = read_log(args.log)
    left = [pair for pair in ordered(args.kinds) if rows.get(pair, {}).get('stage') != DONE]
    left = left[: args.pairs]
    start = time.monotonic()
    os.environ['OMP_NUM_THREADS'] = '1'
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(args.jobs, get_context('spawn'), quiet) as pool,
    ):
        ends = start + 60 * args.minutes
        folders = [Path(folder, str(number)) for number in range(args.jobs)]
        for path in folders:
            path.mkdir()
        futures = {}
        waiting = iter(left)
        free = list(folders)
        done = 0
        while True:
            while free and time.monotonic() < ends and (pair := next(waiting, None)):
                where = free.pop()
                futures[pool.submit(_run_quietly, where, *pair)] = where
            if not futures:
                break
            finished = next(as_completed(futures))
            free.append(futures.pop(finished))
            row = finished.result()
            rows[row['teacher'], row['student']] = row
            write_log(args.log, rows)
            done += 1
            minutes = (time.monotonic() - start) / 60
            eta = minutes / done * (len(left) - done)
            said = row['error'] or row['stage']
            print(
                f'{done}/{len(left)} {minutes:.1f} min, {eta:.1f} to go: {row["teacher"]} -> '
                f'{row["student"]} ({row["method"]}): {said}',
                flush=True,
            )
    if args.write:
        write_atomic(args.write, page(rows, args.kinds).encode())


def page(rows: dict[tuple[str, str], dict], kinds: list[str]) -> str:
    """The matrix in Markdown: a row for each student, a cell for each teacher that was tried."""
    done = [row for row in rows.values() if row['stage'] == DONE]
    lines = [
        '# Which detector teaches which',
        '',
        f'Of the {len(kinds) ** 2} pairs of {len(kinds)} kinds, {len(rows)} were tried at reduced '
        f'size, and {len(done)} went through all stages: `mmkd pair` writes the pair and picks the '
        'method, `mmkd check` finds no error, a training takes two steps and leaves the student, '
        'mmdet loads it and predicts on an image. Weights are random, so this says nothing about '
        'gains ([results.md](results.md)). The ring, in which each kind teaches the next, comes '
        'first; the others follow in a random order. This runs those that are left, and writes '
        'the page:',
        '',
        '```bash',
        'python benchmarks/pairs.py --log docs/matrix.json --write docs/matrix.md --jobs 2',
        '```',
        '',
        '| student | pairs | teacher: method |',
        '| --- | --- | --- |',
    ]
    for kind in kinds:
        own = [rows[teacher, kind] for teacher in kinds if (teacher, kind) in rows]
        cells = [
            f'{row["teacher"]}: '
            + (row['method'] if row['stage'] == DONE else f'**{row["stage"]} fails**')
            for row in own
        ]
        passed = sum(row['stage'] == DONE for row in own)
        lines.append(f'| {kind} | {passed} of {len(own)} | {"; ".join(cells)} |')
    failed = [row for row in rows.values() if row['stage'] != DONE]
    if failed:
        lines += ['', '## What fails', '']
    for row in failed:
        lines.append(f'- {row["teacher"]} → {row["student"]}, at {row["stage"]}: {row["error"]}')
    return '\n'.join(lines) + '\n'


if __name__ == '__main__':
    main()
