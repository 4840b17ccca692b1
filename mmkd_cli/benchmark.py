"""Measure what detectors cost where they run: parameters, MACs, file size, latency, mAP.

mmkd benchmark work_dirs/my_pair/student.pth student.onnx
mmkd benchmark student.pth --teacher teacher.py teacher.pth --baseline baseline.py epoch_12.pth

All are measured in turn, batch 1, on the CPU, by PyTorch and onnxruntime, with one thread and all.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mmkd_cli.predict import count, count_or_none, is_config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The detectors, where their mAP is from, and where results go."""
    parser.add_argument(
        'students',
        nargs='+',
        metavar='STUDENT',
        help='student.pth, student.onnx, or another checkpoint with its config in it; or CONFIG '
        'CHECKPOINT (of a pair its student is taken)',
    )
    for role in ('teacher', 'baseline'):
        parser.add_argument(
            f'--{role}', nargs='+', default=[], metavar='FILE', help=f'the {role}, in the same form'
        )
    parser.add_argument(
        '--size', type=int, nargs=2, metavar=('H', 'W'), help="default: each test pipeline's"
    )
    parser.add_argument('--rounds', type=count, default=50, help='default: 50, for a minute or two')
    parser.add_argument(
        '--data', metavar='CONFIG', help="measure mAP on its test set; default: each one's own"
    )
    parser.add_argument(
        '--map-images',
        type=count_or_none,
        metavar='N',
        help='measure mAP on the first N images; default: all, if they are there; 0: not at all',
    )
    parser.add_argument(
        '--results',
        nargs='+',
        type=Path,
        default=[],
        metavar='FILE',
        help='take the mAP from what "mmkd test" wrote, a file for each: teacher, baseline, '
        'students',
    )
    parser.add_argument(
        '--out', type=Path, metavar='FILE.json', help='write JSON, and mAP against latency as PNG'
    )
    parser.add_argument('--force', action='store_true', help='overwrite files')
    parser.set_defaults(run=run, error=parser.error)


def run(args: argparse.Namespace) -> int:
    """Check everything, then measure."""
    found = [('Teacher', *one) for one in split_files(args, args.teacher)]
    found += [('Baseline', *one) for one in split_files(args, args.baseline)]
    found += [('Student', *one) for one in split_files(args, args.students)]
    if args.size is not None and min(args.size) < 1:
        args.error(f'--size must be two numbers above 0, but got {" ".join(map(str, args.size))}')
    from mmkd.config.config_errors import message_last
    from mmkd.config.read_config import read_config

    sys.excepthook = message_last
    from mmkd.cost.contender import Contender
    from mmkd.cost.run_benchmark import run_benchmark

    run_benchmark(
        [Contender(role, checkpoint, config) for role, config, checkpoint in found],
        args.results,
        None if args.data is None else read_config(args.data),
        args.map_images,
        tuple(args.size) if args.size else None,
        args.rounds,
        args.out,
        args.force,
    )
    return 0


def split_files(args: argparse.Namespace, words: Sequence[str]) -> list[tuple[str | None, str]]:
    """Each checkpoint with the config before it, if one is."""
    found, config = [], None
    for word in words:
        if is_config(word):
            if config is not None:
                break
            config = word
        else:
            found.append((config, word))
            config = None
    if config is not None:
        args.error(f'after the config {config} its checkpoint must come')
    return found
