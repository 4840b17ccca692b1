"""The digits demo: make data, train a teacher, train its student alone and distilled, compare.

It runs the configs and tools that users run. Interrupted, it goes on when it is started again.
"""

import argparse
import json
import os
import shlex
import signal
import sys
import time
from pathlib import Path

from mmengine.config import Config
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mmkd import report
from mmkd.algorithm import build_detector
from mmkd.job import Step, StepFailed, python, run_steps

ROOT = Path(__file__).resolve().parents[1]
DATA = Path('data/digits')  # as the configs have it
CONFIGS = dict(
    teacher=ROOT / 'configs/ssd_r18w32_digits.py',
    student=ROOT / 'configs/ssd_r18w8_digits.py',
    distilled=ROOT / 'configs/ssd_kd_r18_to_r18w8_digits.py',
)
SECONDS = dict(data=12, teacher=150, student=70, distilled=100, test=10)  # two at once, 2 cores


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/demo'))
    seeds = parser.add_mutually_exclusive_group()
    seeds.add_argument('--seed', type=int, default=0, help='of the teacher and the students')
    seeds.add_argument(
        '--seeds', type=int, nargs='+', help='train the students once per seed, the teacher once'
    )
    parser.add_argument('--images', type=int, nargs=2, metavar=('TRAIN', 'VAL'))
    parser.add_argument('--workers', type=int, help='trainings at once, by default one per core')
    parser.add_argument('--cfg-options', nargs='+', default=[], help='for each training')
    args = parser.parse_args(argv)
    args.seeds = list(dict.fromkeys(args.seeds or [args.seed]))
    return args


def detectors(args: argparse.Namespace) -> list[tuple[str, str, int]]:
    """(name, role, seed) of all that is trained."""
    students = [
        (f'{role}_seed{seed}', role, seed)
        for seed in args.seeds
        for role in ('student', 'distilled')
    ]
    return [('teacher', 'teacher', args.seeds[0]), *students]


def make_steps(args: argparse.Namespace) -> list[Step]:
    """The job: data, then training and evaluation of each detector."""
    code = [*sorted((ROOT / 'mmkd').rglob('*.py')), ROOT / 'tools/train.py', ROOT / 'tools/test.py']
    images = ['--train', args.images[0], '--val', args.images[1]] if args.images else []
    steps = [
        Step(
            'data',
            'Drawing digits',
            python(ROOT / 'tools/make_digits.py', '--out', DATA, *images),
            outputs=[DATA / 'digits.json', DATA / 'pixels.sha256'],
            inputs=[ROOT / 'mmkd/digits.py'],
            seconds=SECONDS['data'],
        )
    ]
    for name, role, seed in detectors(args):
        folder = args.work_dir / name
        config = Config.fromfile(CONFIGS[role])
        options = [f'randomness.seed={seed}', 'train_cfg.val_interval=1000', *args.cfg_options]
        config.merge_from_dict(dict(_option(option) for option in options))
        epochs = config.train_cfg.max_epochs
        inputs = [*code, DATA / 'pixels.sha256']
        if role == 'distilled':
            teacher = args.work_dir / f'teacher/epoch_{epochs}.pth'
            options.append(f'model.teacher_ckpt={teacher}')
            inputs.append(teacher)
        checkpoint = folder / ('student.pth' if role == 'distilled' else f'epoch_{epochs}.pth')
        title = report.TITLES[role] + (f', seed {seed}' if len(args.seeds) > 1 else '')
        settings = json.dumps(config.to_dict(), sort_keys=True, default=str)
        steps.append(
            Step(
                f'{name}-train',
                f'{title}: training',
                python(ROOT / 'tools/train.py', CONFIGS[role], '--work-dir', folder)
                + ['--cfg-options', *options],
                outputs=[checkpoint],
                inputs=inputs,
                settings=settings,
                seconds=SECONDS[role],
                epochs=epochs,
                resume=['--resume'],
                scratch=[folder / 'last_checkpoint'],
            )
        )
        steps.append(
            Step(
                f'{name}-test',
                f'{title}: evaluation',
                python(ROOT / 'tools/test.py', CONFIGS[role], checkpoint)
                + ['--work-dir', str(folder / 'test'), '--out', str(folder / 'predictions.pkl')],
                outputs=[folder / 'predictions.pkl'],
                inputs=[*inputs, checkpoint],
                settings=settings,
                seconds=SECONDS['test'],
            )
        )
    return steps


def _option(option: str):
    from mmengine.config import DictAction

    key, value = option.split('=', 1)
    return key, DictAction._parse_iterable(value)


def read_runs(args: argparse.Namespace) -> list[report.Run]:
    """What the steps have left behind."""
    parameters = {
        role: sum(p.numel() for p in build_detector(str(path)).parameters())
        for role, path in CONFIGS.items()
    }
    return [
        report.read_run(
            role, seed, parameters[role], args.work_dir / name, args.work_dir / name / 'test'
        )
        for name, role, seed in detectors(args)
    ]


def show(console: Console, rows: list[list[str]]) -> None:
    table = Table(*rows[0])
    for row in rows[1:]:
        table.add_row(*row)
    console.print(table)


def stop(*_) -> None:
    raise KeyboardInterrupt


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    console = Console()
    signal.signal(signal.SIGTERM, stop)
    start = time.monotonic()
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH')]))
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
    )
    workers = args.workers or min(cores, 2 * len(args.seeds))
    # Small models gain more from a second process than from a second thread. Waiting threads must
    # not spin: beside other work that costs a multiple.
    threads = dict(OMP_NUM_THREADS=str(min(max(cores // workers, 1), 4)), OMP_WAIT_POLICY='PASSIVE')
    try:
        run_steps(
            make_steps(args),
            args.work_dir,
            console,
            env={**threads, **os.environ, 'PYTHONPATH': path},
            workers=workers,
        )
    except StepFailed as error:
        console.print(f'[red]{escape(str(error))}[/]')
        return 1
    except KeyboardInterrupt:
        console.print('Stopped. Run the same command to go on.')
        return 130
    runs = read_runs(args)
    first = args.seeds[0]
    picture = args.work_dir / 'report.png'
    report.draw_picture(
        picture,
        DATA / 'annotations/val.json',
        DATA / 'JPEGImages',
        {
            report.TITLES[role]: args.work_dir / f'{role}_seed{first}/predictions.pkl'
            for role in ('student', 'distilled')
        },
    )
    command = shlex.join(['python', 'tools/demo.py', *(sys.argv[1:] if argv is None else argv)])
    page = report.write_report(
        args.work_dir,
        'Digits: a detector taught by a detector',
        runs,
        picture,
        f'The first validation images, seed {first}; boxes that score 0.3 or more.',
        f'Made by: {command} (steps timed while up to {workers} trainings ran side by side)',
    )
    show(console, report.table(runs))
    if len(args.seeds) > 1:
        show(console, report.seed_table(runs))
    console.print(report.summary(runs))
    console.print(f'Report: {page.resolve()} ({time.monotonic() - start:.0f} s in all)')
    return 0


if __name__ == '__main__':
    sys.exit(main())
