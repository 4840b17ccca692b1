"""The figures of a comparison, computed once; tables, summary and page read them."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan, nan

from mmkd.compare.arms import Arm
from mmkd.compare.report.run import Run


@dataclass(frozen=True)
class Gain:
    """mAP of one arm over that of another.

    Args:
        by_seed: of each seed that both have.
        mean: over the seeds.
        half: half width of the mean's 95 % interval; NaN for a single seed.
        gap_closed: share of the gap between teacher and baseline that the mean closes; None where
            the teacher is not there or no better than the baseline. Defaults to None.
    """

    by_seed: Mapping[int, float]
    mean: float
    half: float
    gap_closed: float | None = None

    @property
    def has_interval(self) -> bool:
        """Whether there is more than one seed."""
        return not isnan(self.half)


@dataclass(frozen=True)
class Results:
    """The runs of a comparison and what follows from them.

    Args:
        runs: in the order in which they were made.
        arms: the runs of each arm that has any, in the order of :class:`Arm`.
        gap: by how much the teacher's mAP exceeds the mean of the baseline; None without one.
        gains: of each taught arm over the baseline, where they share seeds.
        over_control: of the distilled student over the control; None without both.
    """

    runs: Sequence[Run]
    arms: Mapping[Arm, Sequence[Run]]
    gap: float | None
    gains: Mapping[Arm, Gain]
    over_control: Gain | None


def results_of(runs: Sequence[Run]) -> Results:
    """Compute all figures of a comparison's runs."""
    arms = {arm: [run for run in runs if run.arm == arm] for arm in Arm}
    arms = {arm: members for arm, members in arms.items() if members}
    gap = None
    if Arm.TEACHER in arms and Arm.BASELINE in arms:
        teacher, baseline = (
            statistics.fmean(run.map for run in arms[arm]) for arm in (Arm.TEACHER, Arm.BASELINE)
        )
        gap = teacher - baseline
    gains = {arm: _gain(arms, arm, Arm.BASELINE, gap) for arm in arms if arm.is_taught}
    return Results(
        runs,
        arms,
        gap,
        {arm: gain for arm, gain in gains.items() if gain is not None},
        _gain(arms, Arm.DISTILLED, Arm.SHUFFLED),
    )


def _gain(
    arms: Mapping[Arm, Sequence[Run]], arm: Arm, over: Arm, gap: float | None = None
) -> Gain | None:
    base = {run.seed: run.map for run in arms.get(over, ())}
    by_seed = {run.seed: run.map - base[run.seed] for run in arms.get(arm, ()) if run.seed in base}
    if not by_seed:
        return None
    mean, half = mean_interval(list(by_seed.values()))
    return Gain(by_seed, mean, half, mean / gap if gap is not None and gap > 0 else None)


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean and half width of its 95 % t interval (NaN for a single value).

    >>> mean, half = mean_interval([1.0, 2.0, 3.0])
    >>> round(mean, 3), round(half, 3)
    (2.0, 2.484)
    """
    from scipy.stats import t

    if len(values) < 2:
        return statistics.fmean(values), nan
    spread = statistics.stdev(values) / len(values) ** 0.5
    return statistics.fmean(values), float(t.ppf(0.975, len(values) - 1)) * spread
