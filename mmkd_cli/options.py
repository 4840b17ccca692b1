"""Arguments that several commands share, and the config that they make; no torch before."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmengine.config import Config


class ConfigOptions(argparse.Action):
    """``KEY=VALUE ...`` as mmengine's ``DictAction`` reads them, which imports torch."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Sequence[str] | Any,
        option_string: str | None = None,
    ) -> None:
        """Keep the words; they are parsed when the command runs."""
        from mmengine.config import DictAction

        read = DictAction(self.option_strings, self.dest, nargs='+')
        try:
            read(parser, namespace, values, option_string)
        except (AssertionError, RecursionError, ValueError):  # mmengine says no more
            parser.error(
                f'argument {option_string}: must be KEY=VALUE, brackets in pairs, '
                f'but got "{" ".join(values)}"'
            )


def add_config_options(parser: argparse.ArgumentParser, into: str = 'into the config') -> None:
    """Add ``--cfg-options``."""
    parser.add_argument(
        '--cfg-options', nargs='+', action=ConfigOptions, default={}, help=f'key=value, {into}'
    )


def add_epochs(parser: argparse.ArgumentParser) -> None:
    """Add ``--epochs``."""
    parser.add_argument(
        '--epochs', type=int, help='train so long, the schedule in proportion; what came is printed'
    )


def add_launcher(parser: argparse.ArgumentParser) -> None:
    """Add what a launcher of several processes passes."""
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    # torch.distributed.launch passes it; the environment is what counts
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)


def config_of(args: argparse.Namespace) -> 'Config':
    """The config with what ``--cfg-options`` changes."""
    from mmkd.config.config_errors import message_last
    from mmkd.config.read_config import read_config

    sys.excepthook = message_last
    return read_config(args.config, options=args.cfg_options)


def prepare_run(cfg: 'Config', args: argparse.Namespace) -> None:
    """Set where a run writes, and what a launcher told by argument alone."""
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or f'work_dirs/{Path(args.config).stem}'
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
