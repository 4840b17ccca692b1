"""The figures of a comparison, computed once; tables, summary and page read them."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan, nan

from mmkd.compare.arms import Arm
from mmkd.compare.measure.bootstrap import combined_half
from mmkd.compare.measure.evidence import Evidence
from mmkd.compare.report.run import Run


@dataclass(frozen=True)
class Gain:
    """mAP of one arm over that of another.

    Args:
        by_seed: of each seed that both have.
        mean: over the seeds.
        seeds: half width of the mean's 95 % interval over seeds; NaN for a single one.
        images: that over test images; NaN where the predictions were not looked at.
        gap_closed: share of the gap between teacher and baseline that the mean closes; None where
            the teacher is not there or no better than the baseline. Defaults to None.
    """

    by_seed: Mapping[int, float]
    mean: float
    seeds: float
    images: float = nan
    gap_closed: float | None = None

    @property
    def has_interval(self) -> bool:
        """Whether there is more than one seed."""
        return not isnan(self.seeds)

    @property
    def half(self) -> float:
        """Half width of the 95 % interval over seeds and, where that is known, images."""
        return self.seeds if isnan(self.images) else combined_half(self.seeds, self.images)

    @property
    def is_shown(self) -> bool:
        """Whether the interval over seeds and images leaves out 0."""
        return self.has_interval and abs(self.mean) > self.half


@dataclass(frozen=True)
class Results:
    """The runs of a comparison and what follows from them.

    Args:
        runs: in the order in which they were made.
        arms: the runs of each arm that has any, in the order of :class:`Arm`.
        gap: by how much the teacher's mAP exceeds that of the baseline; None without one.
        gains: of each student over the baseline, where they share seeds.
        over: of the distilled student over each other arm with which it shares seeds.
        evidence: what the predictions show image by image. Defaults to None.
    """

    runs: Sequence[Run]
    arms: Mapping[Arm, Sequence[Run]]
    gap: Gain | None
    gains: Mapping[Arm, Gain]
    over: Mapping[Arm, Gain]
    evidence: Evidence | None = None

    def share_of_gap(self, arm: Arm) -> float | None:
        """What an arm's gain closes of the gap; None unless both are shown."""
        gain = self.gains.get(arm)
        if gain is None or not gain.is_shown or gain.mean <= 0:
            return None
        return gain.gap_closed if self.gap is not None and is_clear(self.gap) else None


def is_clear(gap: Gain) -> bool:
    """Whether a teacher is above the baseline by its interval, as far as there is one."""
    return gap.mean > (gap_half(gap) or 0.0)


def gap_half(gap: Gain) -> float | None:
    """Half the interval of a teacher's lead: over images, or where these are unknown, over seeds.

    The teacher is one detector; with it in hand, images are what is left to chance.
    """
    known = [half for half in (gap.images, gap.seeds) if not isnan(half)]
    return known[0] if known else None


def results_of(runs: Sequence[Run], evidence: Evidence | None = None) -> Results:
    """Compute all figures of a comparison's runs."""
    arms = {arm: [run for run in runs if run.arm == arm] for arm in Arm}
    arms = {arm: members for arm, members in arms.items() if members}
    gap = teacher_gap(runs, evidence)
    mean = gap.mean if gap is not None else None
    students = [arm for arm in arms if arm not in (Arm.TEACHER, Arm.BASELINE)]
    gains = {arm: _gain(arms, arm, Arm.BASELINE, evidence, mean) for arm in students}
    over = {
        arm: _gain(arms, Arm.DISTILLED, arm, evidence) for arm in students if arm != Arm.DISTILLED
    }
    return Results(
        runs,
        arms,
        gap,
        {arm: gain for arm, gain in gains.items() if gain is not None},
        {arm: gain for arm, gain in over.items() if gain is not None},
        evidence,
    )


def teacher_gap(runs: Sequence[Run], evidence: Evidence | None = None) -> Gain | None:
    """By how much the teacher exceeds each baseline; None without one of the two."""
    teachers = [run for run in runs if run.arm == Arm.TEACHER]
    baselines = [run for run in runs if run.arm == Arm.BASELINE]
    if not teachers or not baselines:
        return None
    level = statistics.fmean(run.map for run in teachers)
    by_seed = {run.seed: level - run.map for run in baselines}
    pairs = [(key_of(teachers[0]), key_of(run)) for run in baselines]
    mean, half = mean_interval(list(by_seed.values()))
    return Gain(by_seed, mean, half, evidence.image_half(pairs) if evidence else nan)


def _gain(
    arms: Mapping[Arm, Sequence[Run]],
    arm: Arm,
    over: Arm,
    evidence: Evidence | None,
    gap: float | None = None,
) -> Gain | None:
    base = {run.seed: run for run in arms.get(over, ())}
    pairs = [(run, base[run.seed]) for run in arms.get(arm, ()) if run.seed in base]
    if not pairs:
        return None
    by_seed = {run.seed: run.map - other.map for run, other in pairs}
    mean, half = mean_interval(list(by_seed.values()))
    images = nan
    if evidence is not None:
        images = evidence.image_half([(key_of(run), key_of(other)) for run, other in pairs])
    return Gain(by_seed, mean, half, images, mean / gap if gap is not None and gap > 0 else None)


def key_of(run: Run) -> tuple[Arm, int]:
    """What names a run in :class:`Evidence`."""
    return run.arm, run.seed


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
