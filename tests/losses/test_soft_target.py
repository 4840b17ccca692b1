"""MMRazor's KLDivergence is the soft target of Hinton et al.; mmkd reuses it."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmrazor.models.losses import KLDivergence

from mmkd.connectors import FlattenCls
from tests.losses.ssd_inputs import NUM_CLASSES, maps, rows

WIDTH = NUM_CLASSES + 1


def oracle(preds_S, preds_T, tau):
    """tau^2 * mean over priors of KL(softmax(t / tau) || softmax(s / tau)), by loops."""
    total, count = 0.0, 0
    for i in range(preds_S[0].size(0)):
        for s, t in zip(rows(preds_S, WIDTH, i), rows(preds_T, WIDTH, i), strict=True):
            exp_S, exp_T = ([math.exp(v / tau) for v in row.tolist()] for row in (s, t))
            prob_S, prob_T = ([v / sum(row) for v in row] for row in (exp_S, exp_T))
            total += sum(q * math.log(q / p) for p, q in zip(prob_S, prob_T, strict=True))
            count += 1
    return tau**2 * total / count


@given(seed=st.integers(0, 10**6), tau=st.floats(0.5, 10))
@settings(max_examples=15, deadline=None)
def test_kl_divergence_on_ssd_maps_is_the_soft_target(seed, tau):
    student = maps(seed, WIDTH, 2.0, dtype=torch.float64)
    teacher = maps(seed + 1, WIDTH, 2.0, dtype=torch.float64)
    flatten = FlattenCls(WIDTH)
    value = KLDivergence(tau=tau, reduction='batchmean')(flatten(student), flatten(teacher))
    assert value.item() == pytest.approx(oracle(student, teacher, tau), rel=1e-9)


def test_without_the_connector_it_would_be_something_else():
    student, teacher = maps(0, WIDTH)[0], maps(1, WIDTH)[0]  # 2 anchors per cell
    raw = KLDivergence(tau=1.0)(student, teacher)
    assert raw.item() != pytest.approx(oracle([student], [teacher], 1.0), rel=1e-2)


def test_gradient_to_student_and_none_to_teacher():
    student, teacher = ([m.requires_grad_() for m in maps(seed, WIDTH)] for seed in (0, 1))
    flatten = FlattenCls(WIDTH)
    KLDivergence(tau=2.0)(flatten(student), flatten(teacher)).backward()
    assert all(m.grad.any() for m in student)
    assert all(m.grad is None for m in teacher)
