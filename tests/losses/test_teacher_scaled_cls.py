import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmkd.losses import TeacherScaledCls
from tests.losses.contract import LossCase, shape_faults
from tests.losses.ssd_inputs import NUM_CLASSES, maps, rows

WIDTH = NUM_CLASSES + 1


def build(**changes):
    return TeacherScaledCls(**dict(num_classes=NUM_CLASSES) | changes)


def inputs(seed, dtype=torch.float32):
    return {
        'preds_S': maps(seed, WIDTH, dtype=dtype),
        'preds_T': maps(seed + 100, WIDTH, scale=3.0, dtype=dtype),
    }


def box_maps(inputs):
    return {'preds_S': maps(0, 3), 'preds_T': maps(1, 3)}


CASE = LossCase(
    build=build,
    inputs=inputs,
    empty=None,
    log_keys=('foreground',),
    faults=(
        *shape_faults('must agree in classes and priors', r'must be a \(B, C, H, W\) map'),
        (box_maps, r'preds_S must hold 4 channels, C \+ 1, .* Is num_classes=3'),
    ),
)


def softmax(logits, temperature=1.0):
    powers = [math.exp(x / temperature) for x in logits.tolist()]
    return [power / sum(powers) for power in powers]


def oracle(preds_S, preds_T, temperature, score_thr):
    """The equation in plain loops, float64."""
    total = weights = 0.0
    for i in range(preds_S[0].size(0)):
        for s, t in zip(rows(preds_S, WIDTH, i), rows(preds_T, WIDTH, i), strict=True):
            weight = 1 - softmax(t)[-1]
            if weight < score_thr:
                continue
            p_S, p_T = softmax(s, temperature), softmax(t, temperature)
            for a, b in zip(p_S, p_T, strict=True):
                total += weight * b * math.log(b / a)
            weights += weight
    return temperature**2 * total / weights


@pytest.mark.parametrize('temperature, score_thr', [(0.5, 0.0), (1.0, 0.2), (4.0, 0.0)])
@given(seed=st.integers(0, 10**6))
@settings(max_examples=15, deadline=None)
def test_equals_the_oracle(temperature, score_thr, seed):
    data = inputs(seed, torch.float64)
    changes = dict(temperature=temperature, score_thr=score_thr)
    value = build(**changes)(**data)
    assert value.item() == pytest.approx(oracle(**data, **changes), rel=1e-11)


def test_gradcheck():
    data = inputs(3, torch.float64)
    loss = build()
    leaves = [level.requires_grad_() for level in data['preds_S']]
    assert torch.autograd.gradcheck(lambda *s: loss(list(s), data['preds_T']), leaves)


def test_by_hand():
    # 1 class, 1 x 2 cells, temperature 1, an undecided student. Cell 0: the teacher says 3/4,
    # KL = 3/4 ln(3/2) + 1/4 ln(1/2) = 0.1308; cell 1: it says 1/2, KL = 0, w = 1/2.
    # 3/4 * 0.1308 / (3/4 + 1/2) = 0.0785.
    teacher = torch.zeros(1, 2, 1, 2)
    teacher[0, 0, 0, 0] = math.log(3)
    loss = TeacherScaledCls(1, temperature=1.0)
    assert loss(torch.zeros(1, 2, 1, 2), teacher).item() == pytest.approx(0.07849, abs=1e-5)
    assert loss.logs['foreground'].item() == pytest.approx(0.625)


def test_a_teacher_that_sees_nothing_teaches_next_to_nothing():
    data = inputs(0)
    for level in data['preds_T']:
        level.unflatten(1, (-1, WIDTH))[:, :, -1] = 100.0  # background
    assert build()(**data).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    'change, match',
    [
        (dict(num_classes=0), 'num_classes must be at least 1 and temperature positive'),
        (dict(temperature=0.0), 'num_classes must be at least 1 and temperature positive'),
        (dict(score_thr=1.0), 'score_thr must be at least 0 and below 1, got 1.0'),
    ],
)
def test_bad_arguments(change, match):
    with pytest.raises(ValueError, match=match):
        build(**change)
