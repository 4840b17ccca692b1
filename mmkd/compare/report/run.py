"""A run of a comparison, as it is read from what it has left behind."""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmkd.compare.arms import Arm
from mmkd.losses.log_keys import DISTILL, STUDENT, TOTAL, is_term

_PARTS = {
    'bbox_mAP_75': 'IoU 0.75',
    'bbox_mAP_s': 'small objects',
    'bbox_mAP_m': 'medium objects',
    'bbox_mAP_l': 'large objects',
}

Curve = list[tuple[float, float]]


@dataclass(frozen=True)
class Run:
    """One evaluated detector, and how it was trained.

    Args:
        arm (Arm): Which detector of the comparison, or its name.
        seed (int): Of the training.
        parameters (int): Of the detector that predicts.
        map (float): COCO mAP, IoU 0.5 to 0.95, or VOC mAP.
        map50 (float): mAP at IoU 0.5.
        parts (dict): mAP by size of the objects and by class, as far as the metric gives it.
        step_seconds (float, optional): Median wall time of a training step. Defaults to None, for
            a teacher that was given, and where other work ran beside.
        curves (dict): By name (x, y): validation mAP by epoch or, in a training without epochs,
            by step; every loss term by step.
    """

    arm: Arm
    seed: int
    parameters: int
    map: float
    map50: float
    parts: Mapping[str, float] = field(default_factory=dict)
    step_seconds: float | None = None
    curves: Mapping[str, Curve] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, 'arm', Arm(self.arm))


def read_run(
    arm: Arm,
    seed: int,
    parameters: int,
    train: Path | None,
    test: Path,
    disturbed: bool = False,
) -> Run:
    """Read a run from the folders that ``mmkd train`` and ``mmkd test`` wrote.

    Args:
        arm (Arm): See :class:`Run`.
        seed (int): See :class:`Run`.
        parameters (int): See :class:`Run`.
        train (Path, optional): Work dir of the training; None if there was none.
        test (Path): Work dir of the evaluation.
        disturbed (bool): Whether other work ran beside the training, so that its step times tell
            nothing. Defaults to False.

    Raises:
        FileNotFoundError: One of them has not run.
    """
    metrics = _bare(json.loads(_all(test, '*/*.json')[-1].read_text()))
    records = [] if train is None else _records(train)
    return Run(
        arm=arm,
        seed=seed,
        parameters=parameters,
        map=_map(metrics) or 0.0,  # mmdet gives no figure where nothing was detected
        map50=metrics.get('bbox_mAP_50', metrics.get('AP50', 0.0)),
        parts=_parts(metrics),
        step_seconds=None if disturbed else _median_time(records),
        curves=_curves(records),
    )


def step_seconds(train: Path) -> float | None:
    """Median wall time of a step of a training, from its work dir; None if it logged none."""
    return _median_time(_records(train))


def _median_time(records: Sequence[Mapping[str, Any]]) -> float | None:
    times = [record['time'] for record in records if TOTAL in record and 'time' in record]
    return statistics.median(times) if times else None


def _all(folder: Path, pattern: str) -> list[Path]:
    found = sorted(Path(folder).glob(pattern))  # mmengine names runs by their time
    if not found:
        raise FileNotFoundError(f'no {pattern} in {folder}: has that step run?')
    return found


def _bare(metrics: Mapping[str, float]) -> dict[str, float]:
    """Without the metric's prefix: 'coco/bbox_mAP' is 'bbox_mAP'."""
    return {name.split('/', 1)[-1]: value for name, value in metrics.items()}


def _map(metrics: Mapping[str, float]) -> float | None:
    return metrics.get('bbox_mAP', metrics.get('mAP'))


def _parts(metrics: Mapping[str, float]) -> dict[str, float]:
    parts = {title: metrics[name] for name, title in _PARTS.items() if name in metrics}
    for name, value in metrics.items():
        if name.endswith('_precision'):
            parts[name.removesuffix('_precision')] = value
    # COCO's -1, and NaN, stand for "there are no such objects".
    return {title: value for title, value in parts.items() if value >= 0}


def _records(train: Path) -> list[dict[str, Any]]:
    """What a training logged; of one that was resumed, what it had logged before, too."""
    records: list[dict[str, Any]] = []
    for path in reversed(_all(train, '*/vis_data/scalars.json')):
        found = list(map(json.loads, path.read_text().splitlines()))
        begin = {kind: min(_steps(records, kind), default=float('inf')) for kind in (False, True)}
        records = [r for r in found if r.get('step', 0) < begin[TOTAL in r]] + records
        config = path.with_name('config.py')
        if not (config.is_file() and 'resume = True' in config.read_text().splitlines()):
            break
    return records


def _steps(records: Sequence[dict[str, Any]], training: bool) -> list[int]:
    return [record['step'] for record in records if (TOTAL in record) is training]


def _curves(records: Sequence[dict[str, Any]]) -> dict[str, Curve]:
    curves: dict[str, Curve] = {}
    unit = 'epoch' if any('epoch' in record for record in records) else 'step'
    for record in records:
        if TOTAL not in record:
            value = _map(_bare(record))
            if value is not None:
                curves.setdefault(f'validation mAP by {unit}', []).append((record['step'], value))
            continue
        for name, value in record.items():
            if is_term(name) or name.startswith(DISTILL):
                # The distilled student's own terms beside the baseline's.
                curve = curves.setdefault(name.removeprefix(STUDENT), [])
                curve.append((record['step'], value))
    return curves
