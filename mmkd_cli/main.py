"""The command line: the subcommands, and which of them runs."""

import argparse
import importlib
import os
import select
import signal
import sys
from collections.abc import Sequence
from importlib.metadata import version

from mmkd_cli.shipped import PREFIX, shipped_config

_STDOUT = 1

COMMANDS = (
    'new',
    'pair',
    'train',
    'test',
    'check',
    'compare',
    'cache',
    'label',
    'predict',
    'benchmark',
    'export',
    'convert',
    'demo',
    'data',
    'configs',
    'mmdet-tool',
)


class Version(argparse.Action):
    """Prints the version, read only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *args: object, **kwargs: object) -> None:
        """Print the version and exit."""
        print(f'mmkd {version("mmkd")}')
        parser.exit()


def build_parser() -> argparse.ArgumentParser:
    """The parser of ``mmkd`` with those of its subcommands."""
    parser = argparse.ArgumentParser(
        prog='mmkd',
        description='Knowledge distillation for MMDetection detectors.',
        epilog=f'A config is a file, or {PREFIX}NAME: one that comes with mmkd ("mmkd configs").',
    )
    parser.add_argument('--version', action=Version, nargs=0, help='show the version and exit')
    commands = parser.add_subparsers(metavar='COMMAND', required=True)
    for name in COMMANDS:
        module = importlib.import_module(f'mmkd_cli.{name.replace("-", "_")}')
        text = module.__doc__ or ''
        command = commands.add_parser(
            name,
            help=text.splitlines()[0],
            description=text,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
    return parser


def main(argv: Sequence[str] | None = None, run: bool = True) -> int:
    """Run a command line, or without ``run`` only parse it; its exit status."""
    try:
        try:
            return _main(list(sys.argv[1:] if argv is None else argv), run)
        finally:
            if sys.stdout:
                sys.stdout.flush()  # else Python would do so as it exits, where nothing catches
    except BrokenPipeError:
        if not _no_one_reads():
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), _STDOUT)
        return 128 + signal.SIGPIPE  # as of any program whose reader is ``head``


def _main(argv: list[str], run: bool) -> int:
    if argv[:1] != ['configs']:  # which takes names
        try:
            argv = [str(shipped_config(w)) if w.startswith(PREFIX) else w for w in argv]
        except FileNotFoundError as error:
            print(error, file=sys.stderr)
            return 2
    args = build_parser().parse_args(argv)
    args.argv = argv
    return args.run(args) or 0 if run else 0


def _no_one_reads() -> bool:
    """Whether standard output is a pipe whose reader has gone."""
    poll = select.poll()
    poll.register(_STDOUT, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))
