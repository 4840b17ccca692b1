"""``--cfg-options``, read without torch until they are given."""

import argparse
from collections.abc import Sequence
from typing import Any


class ConfigOptions(argparse.Action):
    """``KEY=VALUE ...`` as mmengine's ``DictAction`` reads them, which imports torch."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Sequence[str] | Any,
        option_string: str | None = None,
    ) -> None:
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


def add_launcher(parser: argparse.ArgumentParser) -> None:
    """Add what a launcher of several processes passes."""
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    # torch.distributed.launch passes it; the environment is what counts
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
