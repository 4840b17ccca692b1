"""The tables of the report: a list of rows of cells, the first of them the header."""

import statistics
from collections.abc import Sequence

from mmkd.compare.report.runs import TITLES, Run, gains, gap_closed, mean_interval

Table = list[list[str]]


def arms_of(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """The runs of each arm, in the order of ``TITLES``."""
    arms = {arm: [run for run in runs if run.arm == arm] for arm in TITLES}
    return {arm: members for arm, members in arms.items() if members}


def figure(values: Sequence[float], sign: str = '') -> str:
    """Mean and, of several values, half its 95 % interval.

    >>> figure([0.5]), figure([0.1, 0.2, 0.3], sign='+')
    ('0.500', '+0.200 ± 0.248')
    """
    mean, half = mean_interval(values)
    return f'{mean:{sign}.3f}' + ('' if len(values) < 2 else f' ± {half:.3f}')


def main_table(runs: Sequence[Run]) -> Table:
    """One row per arm; over several seeds each figure is a mean."""
    header = ['', 'parameters', 'mAP', 'mAP50', 'gain', 'gap closed', 'seconds per step']
    rows = [header]
    for arm, members in arms_of(runs).items():
        students = arm not in ('teacher', 'baseline')
        gain = list(gains(runs, arm).values()) if students else []
        share = gap_closed(runs, arm) if students else None
        times = [run.step_seconds for run in members if run.step_seconds is not None]
        rows.append(
            [
                TITLES[arm],
                f'{members[0].parameters:,}',
                figure([run.map for run in members]),
                figure([run.map50 for run in members]),
                figure(gain, sign='+') if gain else '',
                '' if share is None else f'{100 * share:.0f} %',
                f'{statistics.median(times):.3f}' if times else '',
            ]
        )
    return rows


def parts_table(runs: Sequence[Run]) -> Table:
    """mAP by size of the objects and by class: one row per part, one column per arm."""
    arms = arms_of(runs)
    parts = dict.fromkeys(part for run in runs for part in run.parts)
    rows = [['mAP of', *(TITLES[arm] for arm in arms)]]
    for part in parts:
        values = [[r.parts[part] for r in members if part in r.parts] for members in arms.values()]
        rows.append([part, *(figure(found) if found else '' for found in values)])
    return rows


def seed_table(runs: Sequence[Run]) -> Table:
    """One row per seed: mAP of the students, and their gains against the baseline."""
    arms = [arm for arm in arms_of(runs) if arm != 'teacher']
    taught = [arm for arm in arms if arm != 'baseline' and gains(runs, arm)]
    maps = {(run.arm, run.seed): run.map for run in runs}
    header = ['seed', *(TITLES[arm] for arm in arms), *(f'gain, {TITLES[arm]}' for arm in taught)]
    rows = [header]
    for seed in dict.fromkeys(run.seed for run in runs if run.arm != 'teacher'):
        values = [maps.get((arm, seed)) for arm in arms]
        found = [gains(runs, arm).get(seed) for arm in taught]
        rows.append([str(seed), *map(_cell, values), *(_cell(gain, '+') for gain in found)])
    return rows


def _cell(value: float | None, sign: str = '') -> str:
    return '' if value is None else f'{value:{sign}.3f}'
