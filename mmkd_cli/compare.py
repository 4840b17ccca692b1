"""Compare a pair's baseline, distilled student and controls over seeds.

The controls are ``shuffled``, whose teacher looks at another image, and ``longer``, plain training
for the time that distillation took, which runs where ``--arms`` names it.

mmkd compare mmkd::ssd_kd_r18_to_r18w8_digits --seeds 0 1 2

Interrupted, it goes on when it is started again. Ends with report.html in the work directory.
"""

import argparse
import sys
from pathlib import Path

from mmkd_cli.options import add_config_options, add_epochs

ARMS = ('baseline', 'kd', 'shuffled', 'longer')
USUAL_ARMS = ARMS[:3]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The pair, and what it is compared with."""
    parser.add_argument('config', type=Path, help='the pair')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0])
    parser.add_argument(
        '--arms',
        nargs='+',
        choices=ARMS,
        default=list(USUAL_ARMS),
        help='by default all but longer, plain training for the time that distillation took',
    )
    parser.add_argument('--work-dir', type=Path, help='by default work_dirs/compare_<config>')
    teacher = parser.add_mutually_exclusive_group()
    teacher.add_argument('--teacher-ckpt', help="in place of the pair's teacher_ckpt")
    teacher.add_argument('--train-teacher', action='store_true', help='even if it has weights')
    parser.add_argument('--workers', type=int, help='steps at once: by default a GPU or core each')
    parser.add_argument('--val-interval', type=int, help='epochs between validations')
    add_epochs(parser)
    add_config_options(parser, 'for all arms')
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the comparison."""
    from mmkd.compare import Comparison, run_comparison
    from mmkd.config.config_errors import message_last

    sys.excepthook = message_last

    comparison = Comparison(
        args.config,
        args.work_dir or Path(f'work_dirs/compare_{args.config.stem}'),
        args.seeds,
        args.arms,
        teacher_ckpt=args.teacher_ckpt,
        train_teacher=args.train_teacher,
        options=args.cfg_options,
        val_interval=args.val_interval,
        epochs=args.epochs,
    )
    title = f'{args.config.stem}: the proof'
    return run_comparison(comparison, title, ['mmkd', *args.argv], args.workers)
