"""Intervals over test images and seeds."""

import importlib

import numpy as np
import pytest
from scipy.stats import t

from mmkd.compare.measure.bootstrap import combined_half, image_half, resampled_images
from tests.tiny import ROOT


def test_each_resample_has_as_many_images():
    weights = resampled_images(7, 50)
    assert weights.shape == (50, 7) and (weights.sum(1) == 7).all() and weights.max() > 1
    assert (weights == resampled_images(7, 50)).all(), 'the same for each detector'


def test_of_a_mean_it_is_the_standard_error():
    """Where a detector's figure is a mean over images, the bootstrap must give s / sqrt(n)."""
    values = np.random.default_rng(0).normal(size=30)
    means = resampled_images(30, 20_000) @ values / 30
    expected = t.ppf(0.975, 29) * values.std(ddof=1) / 30**0.5
    found = image_half([means], [np.zeros_like(means)], 30)
    assert found == pytest.approx(expected, rel=0.03)


def test_it_is_paired_and_of_the_mean_over_seeds():
    generator = np.random.default_rng(1)
    common, first, second = generator.normal(size=(3, 500))
    assert image_half([common + 0.1], [common], 20) == pytest.approx(0, abs=1e-12)
    one = image_half([common + first, common + second], [common, common], 20)
    other = image_half([(first + second) / 2], [np.zeros(500)], 20)
    assert one == pytest.approx(other)
    assert np.isnan(image_half([common], [first], 1)), 'one image tells nothing of its spread'


def test_the_parts_add_as_squares():
    assert combined_half(3.0, 4.0) == 5.0 and combined_half(2.0, 0.0) == 2.0
    assert np.isnan(combined_half(float('nan'), 1.0)), 'one seed'


def test_coverage_in_a_small_simulation(monkeypatch):
    """The figures of a larger one: docs/verdict.md."""
    monkeypatch.syspath_prepend(ROOT / 'benchmarks')
    simulated = importlib.import_module('interval_coverage').coverage
    (of_seeds, of_images, both), half = simulated(30, seeds=3, images=30, resamples=60)
    assert both >= 0.9 and both > of_images and both >= of_seeds
    assert 2 < half < 40
