"""Train a config: a distillation pair, or a detector on its own."""

import argparse

from mmkd_cli.options import add_config_options, add_launcher
from mmkd_cli.shipped import run_file, shipped


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of tools/train.py."""
    parser.add_argument('config', help='config file')
    parser.add_argument('--work-dir', help='where logs and checkpoints go')
    parser.add_argument(
        '--amp', action='store_true', help='mixed precision: float16 on a GPU, bfloat16 without'
    )
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate by batch size / auto_scale_lr.base_batch_size',
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        help='go on from this checkpoint, or without a value from the latest in the work dir',
    )
    add_config_options(parser)
    add_launcher(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Run tools/train.py."""
    run_file(shipped('tools/train.py'), args.argv[1:])
