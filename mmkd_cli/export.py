"""Write the student of a distillation checkpoint as an mmdet checkpoint with its config."""

import argparse

from mmkd_cli.options import add_config_options, config_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The run, its checkpoint and the file to write."""
    parser.add_argument('config', help='config of the distillation run')
    parser.add_argument('checkpoint', help='what that run saved')
    parser.add_argument('out', help='the file to write, NAME.pth; the config becomes NAME.py')
    parser.add_argument('--force', action='store_true', help='overwrite the file')
    add_config_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Write the student."""
    from mmkd.export.export_student import check_student, export_student

    config = config_of(args)
    check_student(args.checkpoint, config)
    out = export_student(args.checkpoint, config, args.out, args.force)
    print(f'{out} and {out.with_suffix(".py")}')
