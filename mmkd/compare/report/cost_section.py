"""What the detectors of a comparison cost where they run, for its report."""

import statistics
from contextlib import redirect_stdout
from io import StringIO
from typing import NamedTuple

from mmkd.algorithms.quiet_log import quiet_log
from mmkd.compare.arms import Arm
from mmkd.compare.comparison import Comparison
from mmkd.compare.other_work import OthersMeanwhile
from mmkd.compare.report.results import Results
from mmkd.compare.report.tables import Table
from mmkd.cost.contender import Contender
from mmkd.cost.latency import thread_counts
from mmkd.cost.measure_costs import measure_costs
from mmkd.cost.write_costs import cost_notes, cost_table, write_costs

_SHOWN = (Arm.TEACHER, Arm.BASELINE, Arm.DISTILLED)
_ROUNDS = 30
_LIMIT = 10.0  # seconds
_CAPTION = 'What the accuracy costs: mAP, mean over the seeds, against the latency of an image.'
_CROWDED = (
    'Other work ran beside while latencies were measured, so they are too long, and not to be '
    'compared. "mmkd benchmark" measures them again.'
)
_TITLES = {'input': 'input, height x width'}


class Costs(NamedTuple):
    """What a report says of costs.

    Args:
        table: a row for each figure, a column for each detector; empty where nothing is known.
        pictures: by file name the caption.
        fault: a sentence on why nothing is known or times are not sure, or ''.
    """

    table: Table
    pictures: dict[str, str]
    fault: str = ''


def look_at_costs(comparison: Comparison, results: Results) -> Costs:
    """Measure teacher, baseline and student of the first seed, and write ``costs.json``.

    Args:
        comparison: whose steps have run.
        results: its mAP, the mean over the seeds.
    """
    contenders = [
        Contender(
            detector.arm.heading,
            detector.checkpoint,
            comparison.tests[detector.test],
            statistics.fmean(run.map for run in results.arms[detector.arm]),
        )
        for detector in comparison.detectors
        if detector.arm in _SHOWN
        and detector.arm in results.arms
        and detector.seed == comparison.seeds[0]
    ]
    others = OthersMeanwhile()
    try:
        with quiet_log(), redirect_stdout(StringIO()):
            costs = measure_costs(contenders, rounds=_ROUNDS, limit=_LIMIT)
        crowd = others.crowd(max(thread_counts()))
        written = write_costs(comparison.work_dir / 'costs.json', costs)
    except Exception as error:  # after hours of training the other figures must come out
        return Costs([], {}, f' The cost was not measured: {type(error).__name__}: {error}')
    _, *rows = cost_table(costs)
    pictures = {}
    if len(written) > 1:
        told = [_CAPTION, *([_CROWDED] if crowd else []), *cost_notes(costs)]
        pictures[written[1].name] = ' '.join(told)
    header = ['cost', *(one.role for one in contenders)]
    # all other sizes of a report are width x height
    named = [[_TITLES.get(title, title), *cells] for title, *cells in rows if title != 'mAP']
    return Costs([header, *named], pictures, f' {_CROWDED}' if crowd else '')
