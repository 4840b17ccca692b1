"""How many seeds or test images would show a difference of the size that was seen."""

import statistics
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, isnan

from mmkd.compare.report.results import Gain

#: A difference of this size is shown in this share of comparisons.
POWER = 0.8
_MOST_SEEDS, _MOST_TIMES = 100, 100  # the most that is worth naming


@dataclass(frozen=True)
class Spread:
    """Where the uncertainty of a mean difference comes from.

    Args:
        seeds: how many there were.
        between_seeds: standard deviation of the difference between them.
        images: how many were tested; 0 where their part is not known.
        of_images: standard error that they give the mean.
    """

    seeds: int
    between_seeds: float
    images: int = 0
    of_images: float = 0.0

    def detectable(self, seeds: int | None = None, images: int | None = None) -> float:
        """The difference that is shown with a probability of ``POWER``.

        Source: the sample size of the paired t test, ``n = (t_0.975 + t_power)^2 sd^2 / d^2`` with
        n - 1 degrees of freedom (Lachin, Controlled Clinical Trials 1981), here solved for the
        difference d, with the part of the images added as in the interval. The variance of a mean
        falls with 1 / seeds and 1 / images.
        """
        from scipy.stats import t

        seeds, images = seeds or self.seeds, images or self.images
        factor = t.ppf(0.975, seeds - 1) + t.ppf(POWER, seeds - 1)
        found = (factor * self.between_seeds) ** 2 / seeds
        if images > 1:
            factor = t.ppf(0.975, images - 1) + t.ppf(POWER, images - 1)
            found += (factor * self.of_images) ** 2 * self.images / images
        return float(found**0.5)

    def seeds_for(self, difference: float, images: int | None = None) -> int | None:
        """The fewest seeds that show it with as many images; None for more than 100."""
        counts = range(max(self.seeds, 2), _MOST_SEEDS + 1)
        return _first(counts, lambda seeds: self.detectable(seeds, images) <= difference)

    def images_for(self, difference: float, seeds: int | None = None) -> int | None:
        """The fewest images that show it; None for more than 100 times as many."""
        counts = range(self.images, _MOST_TIMES * self.images + 1) if self.images else range(0)
        return _first(counts, lambda images: self.detectable(seeds, images) <= difference)


def _first(counts: range, is_enough: Callable[[int], bool]) -> int | None:
    """The first that is enough, as are all after it."""
    index = bisect_left(counts, True, key=is_enough)
    return counts[index] if index < len(counts) else None


def spread_of(gain: Gain, images: int) -> Spread:
    """The spread that was seen; ``images`` is how many were tested, 0 if their part is unknown."""
    from scipy.stats import t

    seeds = list(gain.by_seed.values())
    if images < 2 or isnan(gain.images):
        return Spread(len(seeds), statistics.stdev(seeds))
    error = gain.images / t.ppf(0.975, images - 1)
    return Spread(len(seeds), statistics.stdev(seeds), images, float(error))


def what_would_show(gain: Gain, images: int) -> str:
    """A sentence on how many seeds, images or both would show a difference of this size."""
    spread, size = spread_of(gain, images), abs(gain.mean)
    begin = 'To show a difference of this size, at the spread seen and four times in five, takes'
    seeds, more = spread.seeds_for(size), spread.images_for(size)
    ways = []
    if seeds:
        ways.append(f'about {seeds} seeds in place of {spread.seeds}')
    if more:
        ways.append(f'about {_round(more)} test images in place of {images}')
    if not ways and images:
        # Half of the variance that is allowed for each.
        seeds = Spread(spread.seeds, spread.between_seeds).seeds_for(size / 2**0.5)
        more = spread.images_for(size, seeds) if seeds else None
        if seeds and more:
            ways.append(f'about {seeds} seeds and {_round(more)} test images')
    if ways:
        return f'{begin} {", or ".join(ways)}.'
    seen = f'these {spread.seeds} seeds' + (f' and {images} test images' if images else '')
    return (
        f'A difference of this size is too small to be shown by {_MOST_SEEDS} seeds; {seen} show '
        f'one of {100 * spread.detectable():.1f} points four times in five.'
    )


def _round(count: int) -> int:
    """To two digits, upwards."""
    step = 10 ** max(len(str(count)) - 2, 0)
    return ceil(count / step) * step
