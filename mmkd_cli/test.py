"""Evaluate a detector: the student of a distillation checkpoint, an exported one, a teacher."""

import argparse

from mmkd_cli.options import add_config_options, add_launcher
from mmkd_cli.shipped import run_file, shipped


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of tools/test.py."""
    parser.add_argument('config', help='config of the pair or of the detector')
    parser.add_argument('checkpoint', help='a file or a URL')
    parser.add_argument('--work-dir', help='where the log and the metrics go')
    parser.add_argument('--out', help='write the predictions to this .pkl file')
    parser.add_argument('--show-dir', help='draw the predictions into this folder')
    add_config_options(parser)
    add_launcher(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Run tools/test.py."""
    run_file(shipped('tools/test.py'), args.argv[1:])
