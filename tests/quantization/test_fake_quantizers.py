"""Fake quantisers against plain loops, and what a training does to them."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from mmkd.quantization.fake_quantizers import RangeQuantizer, WeightQuantizer

SPANS = st.tuples(st.floats(-50, 50), st.floats(0.01, 40))


def batch_of(span, seed: int = 0) -> torch.Tensor:
    low, side = span
    values = np.random.default_rng(seed).uniform(low, low + side, (2, 3, 4, 4))
    return torch.tensor(values, dtype=torch.float32)


def rounded(values, low: float, high: float) -> np.ndarray:
    """Each value by itself, to 256 steps that hold 0."""
    scale = (high - low) / 255
    zero = round(-low / scale)
    found = np.empty(values.shape)
    for at, value in np.ndenumerate(values.numpy().astype(np.float64)):
        found[at] = (min(max(round(value / scale) + zero, 0), 255) - zero) * scale
    return found


@given(spans=st.lists(SPANS, min_size=1, max_size=6), momentum=st.sampled_from([0.01, 0.3, 1.0]))
def test_ranges_are_averages_of_the_batches(spans, momentum):
    quantizer = RangeQuantizer(momentum, batches=0)
    sums = np.zeros(3)
    for seed, span in enumerate(spans):
        values = batch_of(span, seed)
        low, high = min(values.min().item(), 0), max(values.max().item(), 0)
        sums += momentum * (np.array([low, high, 1]) - sums)
        found = quantizer(values)
    low, high = sums[:2] / sums[2]
    expected = rounded(values, low, high)
    step = (high - low) / 255
    away = np.abs(found.numpy() - expected)
    assert away.max() <= 1.001 * step  # float32 may round a middle to the other side
    assert np.mean(away > 0.01 * step) < 0.05
    with torch.no_grad():
        before = quantizer.ranges.clone()
        again = quantizer(values)
    assert torch.equal(quantizer.ranges, before) and torch.equal(again, found)
    constant = quantizer.fixed()(values)
    assert torch.allclose(constant, found, atol=1.001 * step)


@pytest.mark.parametrize(('momentum', 'batches'), [(1.0, 3), (0.1, 300), (0.01, 2000)])
def test_many_batches_are_looked_at_and_then_values_are_rounded(momentum, batches):
    """The weight of so many is 1, as far as float32 tells."""
    quantizer, values = RangeQuantizer(momentum, batches), batch_of((-1.0, 2.0))
    for _ in range(batches - 1):
        assert torch.equal(quantizer(values), values)
    assert not torch.equal(quantizer(values), values) and quantizer.seen == batches


@given(SPANS)
def test_nothing_is_rounded_before_some_batches_were_seen(span):
    quantizer, values = RangeQuantizer(0.5, batches=3), batch_of(span)
    outs = [quantizer(values) for _ in range(5)]
    assert [torch.equal(out, values) for out in outs] == [True, True, False, False, False]
    fresh = RangeQuantizer()
    with torch.no_grad():
        assert torch.equal(fresh(values), values) and torch.equal(fresh.fixed()(values), values)


def test_an_average_of_models_has_an_average_range():
    """As of an EMA that starts before anything was seen."""
    quantizer = RangeQuantizer(0.2, batches=0)
    average = copy.deepcopy(quantizer)
    for seed in range(30):
        quantizer(batch_of((-3, 8), seed))
        average.ranges.lerp_(quantizer.ranges, 0.01)
    ranges = [q.ranges[:2] / q.ranges[2] for q in (quantizer, average)]
    torch.testing.assert_close(*ranges, rtol=0.02, atol=0)


def test_limits_and_faulty_batches():
    quantizer = RangeQuantizer(0.5, batches=0, limits=(0.0, 6.0))
    quantizer(torch.tensor([-9.0, 2.0, 70.0]))
    expected = quantizer.ranges.clone()
    assert expected.tolist() == [0, 3, 0.5]
    for fault in (float('nan'), float('inf')):
        quantizer(torch.tensor([1.0, fault]))
    assert torch.equal(quantizer.ranges[2:], expected[2:]) or quantizer.ranges[2] > 0
    free = RangeQuantizer(0.5, batches=0)
    free(torch.tensor([-1.0, 2.0]))
    before = free.ranges.clone()
    for fault in (float('nan'), float('inf')):
        free(torch.tensor([1.0, fault]))
    assert torch.equal(free.ranges, before)
    free(torch.zeros(0, 3))  # a head with nothing to look at
    assert free.ranges.isfinite().all()


@given(SPANS)
def test_the_gradient_is_that_of_clipping(span):
    quantizer = RangeQuantizer(1.0, batches=0)
    quantizer(batch_of(span))
    low, high = quantizer.ranges[:2].tolist()
    values = torch.linspace(low - 5, high + 5, 41, requires_grad=True)
    with torch.no_grad():
        step = (high - low) / 255
    quantizer.momentum = 0.0
    quantizer(values).sum().backward()
    inside = (values > low + step) & (values < high - step)
    outside = (values < low - step) | (values > high + step)
    assert (values.grad[inside] == 1).all() and (values.grad[outside] == 0).all()


@given(
    st.integers(0, 99),
    st.lists(st.floats(-3, 3).filter(lambda g: g == 0 or abs(g) > 1e-3), min_size=5, max_size=5),
)
def test_rounding_before_a_batchnorm_is_rounding_after_it_is_folded(seed, gains):
    weight = torch.from_numpy(np.random.default_rng(seed).normal(size=(5, 3, 3, 3))).float()
    gain = torch.tensor(gains).reshape(-1, 1, 1, 1)
    quantizer = WeightQuantizer()
    torch.testing.assert_close(quantizer(weight) * gain, quantizer(weight * gain))
    steps = quantizer(weight) / (weight.abs().amax((1, 2, 3), keepdim=True) / 127)
    assert (steps - steps.round()).abs().max() < 1e-3 and steps.abs().max() < 127.01


def test_a_weight_of_zeros_and_its_gradient():
    weight = nn.Parameter(torch.zeros(2, 3, 1, 1))
    WeightQuantizer()(weight).sum().backward()
    assert (weight.grad == 1).all()


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_mixed_precision_rounds_in_float32(dtype):
    values = torch.randn(2, 3, 4, 4).to(dtype)
    quantizer, exact = RangeQuantizer(1.0, batches=0), RangeQuantizer(1.0, batches=0)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        found, weight = quantizer(values), WeightQuantizer()(values)
    assert found.dtype == weight.dtype == dtype
    assert torch.equal(found, exact(values.float()).to(dtype))
    assert quantizer.ranges.dtype == torch.float32
