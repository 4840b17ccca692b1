"""The digits demo: make data, train teacher, baseline and distilled student, compare.

It runs the configs and commands that users run. Interrupted, it goes on when it is started again.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mmkd_cli.options import add_config_options
from mmkd_cli.shipped import shipped

if TYPE_CHECKING:
    from mmkd.compare.step import Step

DATA = Path('data/digits')  # as the config has it


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What may be smaller or larger than in the demo as it is."""
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/demo'))
    seeds = parser.add_mutually_exclusive_group()
    seeds.add_argument('--seed', type=int, default=0, help='of the teacher and the students')
    seeds.add_argument(
        '--seeds', type=int, nargs='+', help='train the students once per seed, the teacher once'
    )
    parser.add_argument('--images', type=int, nargs=2, metavar=('TRAIN', 'VAL'))
    parser.add_argument('--workers', type=int, help='steps at once: by default a GPU or core each')
    add_config_options(parser, 'for each training')
    parser.set_defaults(run=run)


def data_step(images: list[int] | None) -> 'Step':
    """Draws the digits."""
    from mmkd.compare.job import mmkd_command
    from mmkd.compare.step import Step
    from mmkd.datasets import digits

    sizes = ['--train', images[0], '--val', images[1]] if images else []
    return Step(
        'data',
        'Drawing digits',
        mmkd_command('data', 'digits', '--out', DATA, *sizes),
        outputs=[
            DATA / name
            for name in ('pixels.sha256', 'annotations/train.json', 'annotations/val.json')
        ],
        inputs=sorted(Path(digits.__file__).parent.glob('*.py')),
        seconds=12,
    )


def run(args: argparse.Namespace) -> int:
    """Run the demo."""
    from mmkd.compare import Comparison, run_comparison

    comparison = Comparison(
        shipped('configs/ssd_kd_r18_to_r18w8_digits.py'),
        args.work_dir,
        args.seeds or [args.seed],
        arms=('baseline', 'kd'),
        train_teacher=True,
        options=args.cfg_options,
        val_interval=1000,  # the evaluation at the end is enough, and the demo short
    )
    return run_comparison(
        comparison,
        'Digits: a detector taught by a detector',
        ['mmkd', *args.argv],
        args.workers,
        before=[data_step(args.images)],
    )
