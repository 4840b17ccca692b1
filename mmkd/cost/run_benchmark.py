"""The command ``mmkd benchmark``: what is checked before it measures, its progress, its results."""

import json
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path

from mmengine.config import Config
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from mmkd.checkpoints.fetch import is_address
from mmkd.checkpoints.reader import find_checkpoint
from mmkd.config.config_files import config_files
from mmkd.cost.contender import Contender
from mmkd.cost.measure_costs import ROUNDS, measure_costs
from mmkd.cost.measured_map import find_map
from mmkd.cost.write_costs import cost_notes, cost_table, write_costs
from mmkd.doctor.report import Section, show_table
from mmkd.fileio.check_not_read import check_not_read


def run_benchmark(
    contenders: Sequence[Contender],
    results: Sequence[Path] = (),
    data: Config | None = None,
    images: int | None = None,
    size: tuple[int, int] | None = None,
    rounds: int = ROUNDS,
    out: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Measure, and print or write what came of it.

    Args:
        contenders: the detectors.
        results: of each detector the file with its mAP. Defaults to none: the mAP is measured.
        data: see :func:`mmkd.cost.measure_costs.measure_costs`.
        images: the same; of the test set, None for all.
        size: the same.
        rounds: the same.
        out: JSON to write; beside it a picture. Defaults to None.
        overwrite: whether they may be replaced.

    Raises:
        OSError, ValueError: before anything is measured, whatever would end it.
    """
    for one in contenders:
        if not is_address(one.checkpoint):
            find_checkpoint(one.checkpoint, 'the detector')
    if results:
        contenders = with_results(contenders, results)
        images = 0
    if out is not None:
        check_out(out, overwrite)
        sources = [one.config for one in contenders] + [data]
        read = [file for config in sources for file in config_files(config)]
        named = [one.checkpoint for one in contenders]
        check_not_read((out, out.with_suffix('.png')), [*read, *named, *results])
    console = Console(stderr=True)
    columns = (TextColumn('{task.description}'), BarColumn(), TimeElapsedColumn())
    with (
        Progress(
            *columns, TextColumn('left'), TimeRemainingColumn(), console=console, transient=True
        ) as bars,
        redirect_stdout(sys.stderr),
    ):  # what libraries print
        task = bars.add_task('Measuring latencies', total=1.0, visible=False)
        costs = measure_costs(
            contenders,
            size,
            rounds,
            data=data,
            images=images,
            watch=lambda share: bars.update(task, completed=share, visible=True),
        )
    header, *rows = cost_table(costs)
    show_table(Section('Costs', header, [*rows]), Console())
    for line in cost_notes(costs):
        print(line)
    if out is not None:
        print('Written: ' + ', '.join(map(str, write_costs(out, costs))))


def check_out(out: Path, overwrite: bool) -> None:
    """Check that results replace nothing.

    Raises:
        ValueError: the name is none of a JSON file.
        FileExistsError: it is there, or the picture beside it.
    """
    if out.suffix != '.json':
        raise ValueError(f'--out must be named NAME.json, but got "{out}". Add .json.')
    for path in (out, out.with_suffix('.png')):
        if path.exists() and not overwrite:
            raise FileExistsError(
                f'results must not replace a file, but {path} exists. Name another --out, or '
                'allow it (--force).'
            )


def with_results(contenders: Sequence[Contender], results: Sequence[Path]) -> list[Contender]:
    """Contenders with the mAP that files hold, one for each, in the same order.

    Args:
        contenders: the detectors.
        results: what ``mmkd test`` writes as ``WORK_DIR/TIME/TIME.json``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: there are not as many, or one has no mAP.
    """
    if len(results) != len(contenders):
        raise ValueError(
            f'--results must be one file for each detector, in the order '
            f'{", ".join(one.name for one in contenders)}, but got {len(results)}.'
        )
    found = []
    for one, path in zip(contenders, results, strict=True):
        if not path.is_file():
            raise FileNotFoundError(
                f'--results must be files, but there is no "{path}". Correct the path.'
            )
        try:
            measured = find_map(json.loads(path.read_text()))
        except (AttributeError, TypeError, UnicodeDecodeError, ValueError):
            measured = None
        if measured is None:
            raise ValueError(
                f'--results must be what "mmkd test" wrote (WORK_DIR/TIME/TIME.json), with an '
                f'mAP, but "{path}" has none.'
            )
        found.append(one._replace(map=measured))
    return found
