"""Check a distillation pair before it is trained: exit status 0 only when all is well."""

import argparse
import contextlib
import io
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

from mmkd_cli.options import add_config_options, config_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The pair, and what is examined of it."""
    parser.add_argument('config', help='config of the pair')
    parser.add_argument('--images', type=int, default=64, help='for mAP; 0 leaves it out')
    parser.add_argument('--json', action='store_true', help='print the report as JSON')
    parser.add_argument('--show-dir', help='draw masks and weights on training images there')
    add_config_options(parser)
    parser.set_defaults(run=run)


@contextlib.contextmanager
def progress_bar() -> Iterator[Callable[..., Any]]:
    """A line on stderr with the part that is examined."""
    from rich.console import Console
    from rich.progress import Progress as Bars

    with Bars(console=Console(stderr=True), transient=True, redirect_stdout=False) as bars:
        task = bars.add_task('')
        yield lambda part, done, total: bars.update(
            task, description=part, completed=done, total=total
        )


def run(args: argparse.Namespace) -> int:
    """Examine the pair and print the report."""
    try:
        from rich.console import Console
    except ImportError:
        if not args.json:
            raise SystemExit(
                "The report needs rich, which is not installed. pip install 'mmkd[demo]', or --json"
            ) from None
    from mmkd.doctor import Report, examine, show

    report = Report(args.config)
    with contextlib.ExitStack() as stack:
        tell = {} if args.json else {'progress': stack.enter_context(progress_bar())}
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))  # of pycocotools
        with report.section('Config'):
            cfg = config_of(args)
        if report.ok:
            report = examine(cfg, args.images, args.show_dir, **tell)
    if args.json:
        print(json.dumps(report.as_dict(), indent=2, allow_nan=False))
    else:
        show(report, Console(width=None if sys.stdout.isatty() else 110))
    return 0 if report.ok else 1
