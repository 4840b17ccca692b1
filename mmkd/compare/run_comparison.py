"""Run a comparison's steps, then report on them."""

import shlex
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import init_default_scope
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mmkd.algorithms.detection_distill import DetectionDistill
from mmkd.checkpoints.plain_pickle import load_pickle
from mmkd.compare.arms import Arm
from mmkd.compare.comparison import Comparison
from mmkd.compare.configs import taught
from mmkd.compare.job import FolderInUse, Step, StepFailed, run_steps, sole_user
from mmkd.compare.report import tables
from mmkd.compare.report.cost_section import add_costs
from mmkd.compare.report.curves import draw_curves
from mmkd.compare.report.results import results_of
from mmkd.compare.report.summary import summary
from mmkd.compare.report.write_report import Report, write_report
from mmkd.compare.workers import describe_machine, worker_environments
from mmkd.visualization.overlays import overlays
from mmkd.visualization.pictures import Picture, detected_boxes, draw_pictures, ground_truth_boxes


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
    console, start = Console(), time.monotonic()
    if not before:
        comparison.check_data()
        comparison.check_pair()
    try:
        with sole_user(comparison.work_dir):
            environments = _run(comparison, console, workers, before)
            page = _report(comparison, console, title, command, environments, images)
    except (FolderInUse, StepFailed) as error:
        console.print(f'[red]{escape(str(error))}[/]')
        return 1
    except KeyboardInterrupt:
        console.print('Stopped. Run the same command to go on.')
        return 130
    console.print(f'Report: {page.resolve()} ({time.monotonic() - start:.0f} s in all)')
    return 0


def _run(
    comparison: Comparison, console: Console, workers: int | None, before: Sequence[Step]
) -> list[dict[str, str]]:
    """Run the steps; returns the environments that they had."""
    made = [path for step in before for path in step.outputs]
    steps = [*before, *comparison.steps(made)]
    environments = worker_environments(workers, most=len(comparison.detectors))
    previous = signal.signal(signal.SIGTERM, _stop)
    try:
        run_steps(steps, comparison.work_dir, console, environments)
    finally:
        signal.signal(signal.SIGTERM, previous)
    return environments


def _report(
    comparison: Comparison,
    console: Console,
    title: str,
    command: Sequence[str],
    environments: list[dict[str, str]],
    images: int,
) -> Path:
    """Show the figures and write the report; returns its page."""
    results, folder = results_of(comparison.runs()), comparison.work_dir
    pictures = {}
    if draw_curves(folder / 'curves.png', results):
        pictures['curves.png'] = 'Validation mAP and loss terms: mean and range over the seeds.'
    shown, fault = look_at(comparison, images)
    draw_pictures(folder / 'report.png', shown)
    pictures['report.png'] = (
        f'The first test images, seed {comparison.seeds[0]}: boxes that score 0.3 or more; the '
        'cells whose features are imitated, on any level; the highest score that the teacher '
        f'gives in a cell, or in the boxes of its proposals and queries.{fault}'
    )
    words = [Path(word).name if Path(word).is_absolute() else word for word in command]
    notes = (
        f'Made by: {shlex.join(words)} (steps timed while up to {len(environments)} ran at once)'
    )
    settings = {**comparison.settings(), **describe_machine(environments)}
    settings |= add_costs(comparison, results, pictures)
    page = write_report(folder, Report(title, notes, pictures, settings), results)
    _show(console, tables.main_table(results))
    if len(comparison.seeds) > 1:
        _show(console, tables.seed_table(results))
    console.print(summary(results))
    return page


def _stop(*_: Any) -> None:
    raise KeyboardInterrupt


def _show(console: Console, rows: tables.Table) -> None:
    table = Table(*rows[0])
    for row in rows[1:]:
        table.add_row(*row)
    console.print(table)


def look_at(comparison: Comparison, count: int) -> tuple[list[Picture], str]:
    """The first test images with what each student finds and what the teacher shows.

    Returns:
        tuple: the pictures; a sentence on what could not be drawn, or ''.
    """
    import mmcv
    from mmdet.registry import DATASETS

    config = comparison.tests['student']
    init_default_scope(config.get('default_scope', 'mmdet'))
    dataset = DATASETS.build(config.test_dataloader.dataset)
    classes = dataset.metainfo['classes']
    found = {}
    for detector in comparison.detectors:
        if detector.arm is not Arm.TEACHER and detector.seed == comparison.seeds[0]:
            with (detector.folder / 'predictions.pkl').open('rb') as file:
                found[detector.arm.heading] = load_pickle(file)
    pictures, fault = [], ''
    try:
        pair = _build_pair(comparison)
    except Exception as error:
        pair, fault = None, _fault(error)
    for index in range(min(count, len(dataset))):
        info = dataset.get_data_info(index)
        boxes = {'Ground truth': ground_truth_boxes(info['instances'], classes)}
        for heading, items in found.items():
            [item] = [item for item in items if item['img_path'] == info['img_path']]
            boxes[heading] = detected_boxes(item['pred_instances'], classes)
        heat = {}
        if pair is not None:
            try:
                heat = {name: m.numpy() for name, m in overlays(pair, dataset, index).items()}
            except Exception as error:
                pair, fault = None, _fault(error)
        pixels = mmcv.imread(info['img_path'], channel_order='rgb')
        pictures.append(Picture(pixels, boxes, heat))
    return pictures, fault


def _fault(error: Exception) -> str:
    # After hours of training the figures must come out, whatever an unusual pair does to drawings.
    return f" Mask and teacher's weight could not be drawn: {type(error).__name__}: {error}"


def _build_pair(comparison: Comparison) -> DetectionDistill:
    from mmdet.registry import MODELS

    config: Config = taught(comparison.pair, comparison.teacher.checkpoint)
    config.model.lean_teacher = None
    return MODELS.build(config.model).eval()
