"""The digits demo: make data, train teacher, baseline and distilled student, compare them.

It runs the configs and tools that users run. Interrupted, it goes on when it is started again.
"""

import argparse
import sys
from pathlib import Path

from mmengine.config import DictAction

from mmkd.compare import Comparison, run_comparison
from mmkd.job import Step, python

ROOT = Path(__file__).resolve().parents[1]
PAIR = ROOT / 'configs/ssd_kd_r18_to_r18w8_digits.py'
DATA = Path('data/digits')  # as the config has it


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/demo'))
    seeds = parser.add_mutually_exclusive_group()
    seeds.add_argument('--seed', type=int, default=0, help='of the teacher and the students')
    seeds.add_argument(
        '--seeds', type=int, nargs='+', help='train the students once per seed, the teacher once'
    )
    parser.add_argument('--images', type=int, nargs=2, metavar=('TRAIN', 'VAL'))
    parser.add_argument('--workers', type=int, help='steps at once: by default a GPU or core each')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, default={}, help='for each training'
    )
    return parser.parse_args(argv)


def data_step(images: list[int] | None) -> Step:
    """Draws the digits."""
    sizes = ['--train', images[0], '--val', images[1]] if images else []
    return Step(
        'data',
        'Drawing digits',
        python(ROOT / 'tools/make_digits.py', '--out', DATA, *sizes),
        outputs=[
            DATA / name
            for name in ('pixels.sha256', 'annotations/train.json', 'annotations/val.json')
        ],
        inputs=[ROOT / 'mmkd/digits.py'],
        seconds=12,
    )


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    comparison = Comparison(
        PAIR,
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
        ['python', 'tools/demo.py', *(sys.argv[1:] if argv is None else argv)],
        args.workers,
        before=[data_step(args.images)],
    )


if __name__ == '__main__':
    sys.exit(main())
