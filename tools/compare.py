"""Compare a pair's baseline, distilled student and control (a shuffled teacher) over seeds.

python tools/compare.py configs/ssd_kd_r18_to_r18w8_digits.py --seeds 0 1 2

Interrupted, it goes on when it is started again. Ends with report.html in the work directory.
"""

import argparse
import sys
from pathlib import Path

from mmengine.config import DictAction

from mmkd.compare import ARMS, Comparison, run_comparison
from mmkd.config.config_errors import message_first


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', type=Path, help='the pair')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0])
    parser.add_argument('--arms', nargs='+', choices=ARMS, default=list(ARMS))
    parser.add_argument('--work-dir', type=Path, help='by default work_dirs/compare_<config>')
    teacher = parser.add_mutually_exclusive_group()
    teacher.add_argument('--teacher-ckpt', help="in place of the pair's teacher_ckpt")
    teacher.add_argument('--train-teacher', action='store_true', help='even if it has weights')
    parser.add_argument('--workers', type=int, help='steps at once: by default a GPU or core each')
    parser.add_argument('--val-interval', type=int, help='epochs between validations')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, default={}, help='key=value, for all arms'
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    sys.excepthook = message_first
    comparison = Comparison(
        args.config,
        args.work_dir or Path(f'work_dirs/compare_{args.config.stem}'),
        args.seeds,
        args.arms,
        teacher_ckpt=args.teacher_ckpt,
        train_teacher=args.train_teacher,
        options=args.cfg_options,
        val_interval=args.val_interval,
    )
    command = ['python', 'tools/compare.py', *(sys.argv[1:] if argv is None else argv)]
    return run_comparison(comparison, f'{args.config.stem}: the proof', command, args.workers)


if __name__ == '__main__':
    sys.exit(main())
