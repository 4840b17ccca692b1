"""The tables of the report: a list of rows of cells, the first of them the header."""

import statistics
from collections.abc import Sequence
from math import isnan

from mmkd.compare.arms import Arm
from mmkd.compare.measure.errors import KINDS
from mmkd.compare.report.results import Results, key_of, mean_interval

Table = list[list[str]]


def figure(values: Sequence[float]) -> str:
    """Mean and, of several values, half its 95 % interval.

    >>> figure([0.5]), figure([0.1, 0.2, 0.3])
    ('0.500', '0.200 ± 0.248')
    """
    return _interval(*mean_interval(values))


def _interval(mean: float, half: float, sign: str = '') -> str:
    return f'{mean:{sign}.3f}' + ('' if isnan(half) else f' ± {half:.3f}')


def main_table(results: Results) -> Table:
    """One row per arm, means over the seeds; a column that no arm has a figure for is left out."""
    rows = [['', 'parameters', 'mAP', 'mAP50', 'gain', 'gap closed', 'seconds per step']]
    for arm, members in results.arms.items():
        gain, share = results.gains.get(arm), results.share_of_gap(arm)
        times = [run.step_seconds for run in members if run.step_seconds is not None]
        rows.append(
            [
                arm.heading,
                f'{members[0].parameters:,}',
                figure([run.map for run in members]),
                figure([run.map50 for run in members]),
                _interval(gain.mean, gain.half, sign='+') if gain else '',
                '' if share is None else f'{100 * share:.0f} %',
                f'{statistics.median(times):.3f}' if times else '',
            ]
        )
    kept = [any(cells[1:]) for cells in zip(*rows, strict=True)]
    return [[cell for cell, keep in zip(row, kept, strict=True) if keep] for row in rows]


def error_table(results: Results) -> Table:
    """What each kind of error costs an arm, in points of AP50; a row per kind, means over seeds."""
    header = ['points of AP50 lost by', *(arm.heading for arm in results.arms)]
    if results.evidence is None or not results.evidence.costs:
        return [header]
    costs = results.evidence.costs
    return [header] + [
        [kind]
        + [
            f'{100 * statistics.fmean(costs[key_of(run)][kind] for run in members):.1f}'
            for members in results.arms.values()
        ]
        for kind in KINDS
    ]


def parts_table(results: Results) -> Table:
    """mAP by size of the objects and by class: one row per part, one column per arm."""
    arms = results.arms
    parts = dict.fromkeys(part for run in results.runs for part in run.parts)
    rows = [['mAP of', *(arm.heading for arm in arms)]]
    for part in parts:
        values = [[r.parts[part] for r in members if part in r.parts] for members in arms.values()]
        rows.append([part, *(figure(found) if found else '' for found in values)])
    return rows


def seed_table(results: Results) -> Table:
    """One row per seed: mAP of the students, and their gains against the baseline."""
    students = [arm for arm in results.arms if arm is not Arm.TEACHER]
    maps = {(run.arm, run.seed): run.map for run in results.runs if run.arm in students}
    header = ['seed', *(arm.heading for arm in students)]
    rows = [header + [f'gain, {arm.heading}' for arm in results.gains]]
    for seed in dict.fromkeys(seed for _, seed in maps):
        values = [maps.get((arm, seed)) for arm in students]
        found = [gain.by_seed.get(seed) for gain in results.gains.values()]
        rows.append([str(seed), *map(_cell, values), *(_cell(gain, '+') for gain in found)])
    return rows


def _cell(value: float | None, sign: str = '') -> str:
    return '' if value is None else f'{value:{sign}.3f}'
