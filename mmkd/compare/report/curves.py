"""The curves of the report: validation mAP and every loss term, a small panel for each."""

import statistics
from pathlib import Path
from typing import Any

from mmkd.compare.arms import Arm
from mmkd.compare.report.results import Results
from mmkd.losses.log_keys import DISTILL, TOTAL, is_term

Band = list[tuple[float, float, float, float]]
_POINTS = 200  # of a curve, at most


def bands(results: Results) -> dict[str, dict[Arm, Band]]:
    """By name and arm (x, mean, lowest, highest) over the seeds.

    The teacher is there with its validation mAP alone: its loss terms are those of another model.
    """
    found: dict[str, dict[Arm, Band]] = {}
    for arm, members in results.arms.items():
        for name in dict.fromkeys(name for run in members for name in run.curves):
            if arm is Arm.TEACHER and not name.startswith('validation'):
                continue
            values: dict[float, list[float]] = {}
            for run in members:
                for x, y in run.curves.get(name, ()):
                    values.setdefault(x, []).append(y)
            points = [(x, statistics.fmean(y), min(y), max(y)) for x, y in sorted(values.items())]
            found.setdefault(name, {})[arm] = points[:: -(-len(points) // _POINTS)]
    return dict(sorted(found.items(), key=_order))


def _order(item: tuple[str, Any]) -> tuple[Any, ...]:
    """Validation, the total, the student's own terms, those of the teacher."""
    name = item[0]
    return not name.startswith('validation'), name != TOTAL, name.startswith(DISTILL), name


def is_statistic(name: str) -> bool:
    """Whether a curve is neither a validation nor part of what is minimised."""
    return name.startswith(DISTILL) and not is_term(name)


def draw_curves(path: Path, results: Results, statistics: bool = False, columns: int = 3) -> bool:
    """Draw the curves into a PNG, or the statistics of the losses; False if there are none."""
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot as plt

    curves = {k: v for k, v in bands(results).items() if is_statistic(k) is statistics}
    if not curves:
        return False
    rows = -(-len(curves) // columns)
    size = (3.4 * columns, 2.3 * rows + 0.4)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout='constrained')
    for axis in axes.flat[len(curves) :]:
        axis.remove()
    for axis, (name, arms) in zip(axes.flat, curves.items(), strict=False):
        axis.set_title(name, fontsize=9)
        axis.tick_params(labelsize=7)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.3)
        for arm, points in arms.items():
            x, mean, low, high = zip(*points, strict=True)
            mark = 'o' if len(x) < 15 else None
            colour, label = arm.colour, arm.heading
            axis.plot(x, mean, color=colour, label=label, linewidth=1.2, marker=mark, markersize=3)
            axis.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
    lines: dict[str, Any] = {}
    for axis in figure.axes:
        handles, labels = axis.get_legend_handles_labels()
        lines.update(zip(labels, handles, strict=True))
    figure.legend(
        list(lines.values()), list(lines), loc='outside upper center', ncols=4, fontsize=9
    )
    figure.savefig(path, dpi=110, metadata={'Software': None})
    plt.close(figure)
    return True
