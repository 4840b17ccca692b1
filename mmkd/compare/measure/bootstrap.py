"""How much a mean difference in mAP owes to the test images: a paired bootstrap over them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

#: Resamples; the standard error of a spread from so many is 2 % of it.
RESAMPLES = 1000


def resampled_images(images: int, resamples: int = RESAMPLES, seed: int = 0) -> NDArray[Any]:
    """How often each image is drawn, (resamples, images); the same for all detectors."""
    generator = np.random.default_rng(seed)
    return generator.multinomial(images, np.full(images, 1 / images), size=resamples)


def image_half(
    taught: Sequence[NDArray[Any]], baselines: Sequence[NDArray[Any]], images: int
) -> float:
    """Half width of the 95 % interval that the images alone give a mean difference.

    Source: Efron & Tibshirani, An Introduction to the Bootstrap, 1993, ch. 6 (standard error) and
    ch. 8 (paired data). The factor n / (n - 1) corrects its bias in small samples (ch. 5).

    Args:
        taught: for each seed the mAP on each resample, (B,).
        baselines: those of the same seeds, on the same resamples.
        images: how many were drawn from.
    """
    if images < 2:
        return float('nan')
    pairs = zip(taught, baselines, strict=True)
    means = np.mean([one - other for one, other in pairs], axis=0)
    spread = means.std(ddof=1) * (images / (images - 1)) ** 0.5
    return float(t.ppf(0.975, images - 1) * spread)


def combined_half(seeds: float, images: float) -> float:
    """Half width of the 95 % interval over both seeds and images.

    Seeds and images are drawn independently of each other, so their variances add. Each half width
    has its own quantile, and the squares are added: the recovery of variance from the limits of
    each part (Howe, JASA 1974; Zou & Donner, Statistics in Medicine 2008). It asks no common
    number of degrees of freedom, which two or three seeds would make unsure. Coverage by
    simulation: ``benchmarks/interval_coverage.py``.
    """
    return float(np.hypot(seeds, images))
