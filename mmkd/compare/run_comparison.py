"""Run a comparison's steps, then report on them."""

import shlex
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Column, Table

from mmkd.algorithms.detection_distill import DetectionDistill
from mmkd.algorithms.quiet_log import quiet_log
from mmkd.compare.arms import Arm
from mmkd.compare.comparison import Comparison
from mmkd.compare.first_look import FirstLook, teacher_to_write
from mmkd.compare.job import FolderInUse, StepFailed, run_steps, sole_user
from mmkd.compare.kept_console import KeptConsole
from mmkd.compare.look_at import look_at
from mmkd.compare.measure.evidence import Evidence
from mmkd.compare.measure.thresholds import equal_thresholds
from mmkd.compare.outcome import is_disturbed, look_closer, runs_of, settings_of
from mmkd.compare.pace import Pace, measure_pace
from mmkd.compare.plan import of_teacher, plan_of, timed
from mmkd.compare.report import tables
from mmkd.compare.report.cost_section import look_at_costs
from mmkd.compare.report.curves import draw_curves
from mmkd.compare.report.results import results_of
from mmkd.compare.report.run import Run
from mmkd.compare.report.summary import summary
from mmkd.compare.report.write_report import Report, write_report
from mmkd.compare.step import Step
from mmkd.compare.workers import describe_machine, worker_environments
from mmkd.visualization.pictures import draw_pictures


def run_comparison(
    comparison: Comparison,
    title: str,
    command: Sequence[str],
    workers: int | None = None,
    before: Sequence[Step] = (),
    images: int = 4,
) -> int:
    """Run what has not run yet, and write report.html, .md, .json and .log.

    Args:
        comparison (Comparison): What to run.
        title (str): The report's heading.
        command (Sequence[str]): What the user called, for the report.
        workers (int, optional): Steps at once. Defaults to one per GPU, without GPUs per core.
        before (Sequence[Step]): Steps that make the data; all else depends on their outputs.
        images (int): Images shown in the report. Defaults to 4.

    Returns:
        int: The exit status: 0, 1 for a step that failed or a folder in use, 130 for Ctrl-C.
    """
    console, start = KeptConsole(comparison.work_dir / 'compare.log'), time.monotonic()
    pair = None
    try:
        if not before:
            with console.log_kept():
                comparison.check_data()
                pair = comparison.check_pair()
        with sole_user(comparison.work_dir):
            environments = _run(comparison, console, workers, before, pair)
            page = _report(comparison, console, title, command, environments, images)
    except (FolderInUse, StepFailed) as error:
        console.print(f'[red]{escape(str(error))}[/]')
        return 1
    except KeyboardInterrupt:
        console.print('Stopped. Run the same command to go on.')
        return 130
    for line in teacher_to_write(comparison):
        console.print(escape(line))
    console.print(f'Report: {page.resolve()} ({time.monotonic() - start:.0f} s in all)')
    return 0


def _run(
    comparison: Comparison,
    console: Console,
    workers: int | None,
    before: Sequence[Step],
    pair: DetectionDistill | None,
) -> list[dict[str, str]]:
    """Say what will be done, and do it; returns the environments that the steps had."""
    made = [path for step in before for path in step.outputs]
    steps = [*before, *comparison.steps(made)]
    environments = worker_environments(workers, most=len(comparison.detectors))
    logs = comparison.work_dir / 'logs'
    left = [step for step in steps if not step.is_done(logs)]
    threads = int(environments[0]['OMP_NUM_THREADS'])
    pace = _pace(comparison, console, pair, threads) if pair is not None and left else None
    if pace is not None:
        steps = timed(comparison, steps, pace)
        left = [step for step in steps if step.name in {one.name for one in left}]
    done, at_once = len(steps) - len(left), len(environments)
    console.print(escape(plan_of(comparison, left, done, at_once, pace is not None)))
    previous = signal.signal(signal.SIGTERM, _stop)
    try:
        look = FirstLook(comparison, console) if left else lambda step: None
        run_steps(steps, comparison.work_dir, console, environments, look)
    finally:
        signal.signal(signal.SIGTERM, previous)
    return environments


def _pace(
    comparison: Comparison, console: Console, pair: DetectionDistill, threads: int
) -> Pace | None:
    """How fast a step is, or a line on why it could not be timed."""
    [arm, *_] = [arm for arm in comparison.configs if Arm(arm).is_taught]
    try:
        with quiet_log():
            return measure_pace(pair, comparison.configs[arm], threads)
    except Exception as error:  # an estimate is not worth a comparison
        told = f'No step could be timed: {type(error).__name__}: {error}'
        console.print(f'[yellow]{escape(told)}[/]')
        return None


def _report(
    comparison: Comparison,
    console: Console,
    title: str,
    command: Sequence[str],
    environments: list[dict[str, str]],
    images: int,
) -> Path:
    """Show the figures and write the report; returns its page."""
    runs, folder = runs_of(comparison), comparison.work_dir
    evidence, fault = _closer_look(comparison, runs)
    results = results_of(runs, evidence)
    told, thresholds = _thresholds(comparison, evidence)
    shown, blank = look_at(comparison, images, thresholds)
    draw_pictures(folder / 'report.png', shown)
    pictures = {
        'report.png': f'The first test images, seed {comparison.seeds[0]}: {told} Imitation mask: '
        "the cells whose features are imitated, on any level. Teacher's weight: the highest score "
        f'that the teacher gives in a cell, or in the boxes of its proposals and queries.{blank}'
    }
    costs = look_at_costs(comparison, results)
    curves, folded = dict(costs.pictures), {}
    if draw_curves(folder / 'curves.png', results):
        curves['curves.png'] = 'Validation mAP and loss terms: mean and range over the seeds.'
    if draw_curves(folder / 'statistics.png', results, statistics=True):
        folded['statistics.png'] = 'Statistics of the losses: mean and range over the seeds.'
    words = [Path(word).name if Path(word).is_absolute() else word for word in command]
    notes = (
        f'Made by: {shlex.join(words)} (steps timed while up to {len(environments)} ran at '
        f'once).{_undisturbed(comparison)}{fault}{costs.fault}'
        + (f' {of_teacher(comparison)}' if comparison.teacher is None else '')
    )
    settings = {**settings_of(comparison), **describe_machine(environments)}
    report = Report(title, notes, pictures, settings, curves, folded, costs.table)
    page = write_report(folder, report, results)
    shown_tables = [tables.main_table(results), tables.error_table(results)]
    if len(comparison.seeds) > 1:
        shown_tables.insert(1, tables.seed_table(results))
    for rows in shown_tables:
        if len(rows) > 1:
            _show(console, rows)
    console.print(escape(f'{summary(results)}{fault}'))
    return page


def _undisturbed(comparison: Comparison) -> str:
    """A sentence on the trainings whose times are left out, or ''."""
    disturbed = [d.folder.name for d in comparison.detectors if is_disturbed(comparison, d)]
    if not disturbed:
        return ''
    return f' Other work ran beside {", ".join(disturbed)}: no seconds per step are given of these.'


def _closer_look(comparison: Comparison, runs: Sequence[Run]) -> tuple[Evidence | None, str]:
    """What the images tell, and a sentence on why they tell nothing, or ''."""
    try:
        return look_closer(comparison, runs), ''
    except Exception as error:  # after hours of training the figures must come out
        return None, f' The test images could not be looked at: {type(error).__name__}: {error}'


def _thresholds(comparison: Comparison, evidence: Evidence | None) -> tuple[str, dict[Arm, float]]:
    """A sentence on the boxes that are shown, and the lowest score of each arm's."""
    if evidence is None:
        return 'boxes that score 0.3 or more.', {}
    own = {arm: one for (arm, seed), one in evidence.judged.items() if seed == comparison.seeds[0]}
    precision, found, never = equal_thresholds(own, Arm.BASELINE)
    if not precision:  # it finds nothing yet: any score would do
        return 'boxes that score 0.3 or more.', {}
    scores = ', '.join(f'{arm.heading} {score:.2f}' for arm, score in found.items())
    names = ' and '.join(arm.heading for arm in never)
    other = f' Never so precise, and shown from the score on where they are most: {names}.'
    return (
        f'boxes from the score on at which each detector has a precision of {precision:.2f} on all '
        f"test images, where the baseline's F1 is highest ({scores}).{other if never else ''}",
        found,
    )


def _stop(*_: Any) -> None:
    raise KeyboardInterrupt


def _show(console: Console, rows: tables.Table) -> None:
    """A table; on a terminal that is too narrow for it a line for each row, never cut."""
    header, *rest = rows
    table = Table(*(Column(escape(name), overflow='fold') for name in header))
    for row in rest:
        table.add_row(*map(escape, row))
    # what is measured is no more than the width
    if Measurement.get(console, console.options, table).minimum < console.width:
        console.print(table)
        return
    for row in rest:
        facts = [f'{name} {cell}' for name, cell in zip(header[1:], row[1:], strict=True) if cell]
        console.print(escape(f'{header[0]} {row[0]}: {", ".join(facts)}'.strip()))
