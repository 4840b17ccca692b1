import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmkd.heads.level_maps import foreground
from mmkd.losses import TeacherScaledReg
from tests.losses.contract import LossCase, shape_faults
from tests.losses.ssd_inputs import NUM_CLASSES, maps, rows

WIDTH = NUM_CLASSES + 1


def inputs(seed, dtype=torch.float32):
    student, teacher = maps(seed, 4, dtype=dtype), maps(seed + 100, 4, dtype=dtype)
    return {
        'preds_S': student,
        'preds_T': teacher,
        'scores_T': maps(seed + 200, WIDTH, scale=3.0, dtype=dtype),
    }


def scores_of_one_level(inputs):
    return inputs | {'scores_T': inputs['scores_T'][:1]}


def scores_of_one_class(inputs):
    return inputs | {'scores_T': maps(0, 1)}


def class_maps(inputs):
    return inputs | {'preds_S': maps(0, 3), 'preds_T': maps(1, 3)}


def scores_of_other_anchors(inputs):
    first, second = inputs['scores_T']
    return inputs | {'scores_T': [first, second[:, :-WIDTH]]}


def scores_as_rows(inputs):
    return inputs | {'scores_T': inputs['scores_T'][0].flatten(1)}


CASE = LossCase(
    build=TeacherScaledReg,
    inputs=inputs,
    empty=None,
    log_keys=('foreground',),
    faults=(
        *shape_faults('must agree in priors', r'must be a \(B, C, H, W\) map'),
        (scores_of_one_level, 'scores_T must hold C \\+ 1 >= 2 channels'),
        (scores_of_one_class, 'scores_T must hold C \\+ 1 >= 2 channels'),
        (scores_of_other_anchors, 'scores_T must hold C \\+ 1 >= 2 channels'),
        (class_maps, 'scores_T must hold C \\+ 1 >= 2 channels'),
        (scores_as_rows, r'scores_T must be a \(B, C, H, W\) map'),
    ),
)


def oracle(preds_S, preds_T, scores_T, beta):
    """The equation in plain loops, float64."""
    total = weights = 0.0
    for i in range(preds_S[0].size(0)):
        priors = zip(
            rows(preds_S, 4, i), rows(preds_T, 4, i), rows(scores_T, WIDTH, i), strict=True
        )
        for s, t, logits in priors:
            powers = [math.exp(x) for x in logits.tolist()]
            weight = 1 - powers[-1] / sum(powers)
            for a, b in zip(s.tolist(), t.tolist(), strict=True):
                error = abs(a - b)
                total += weight * (error**2 / 2 / beta if error < beta else error - beta / 2)
            weights += weight
    return total / weights


@pytest.mark.parametrize('beta', [0.0, 0.3, 1.0])
@given(seed=st.integers(0, 10**6))
@settings(max_examples=15, deadline=None)
def test_equals_the_oracle(beta, seed):
    data = inputs(seed, torch.float64)
    value = TeacherScaledReg(beta, loss_weight=1.0)(**data)
    assert value.item() == pytest.approx(oracle(**data, beta=beta), rel=1e-12)


STRIDES, SIDES = (4, 8), ((6.0, 9.0), (12.0, 18.0))  # of the levels; of their two anchors
PRIORS = dict(
    type='AnchorGenerator', strides=STRIDES, base_sizes=[6, 12], scales=[1.0, 1.5], ratios=[1.0]
)
STDS = (0.1, 0.1, 0.2, 0.2)
IOU = dict(
    box_loss='giou',
    prior_generator=PRIORS,
    bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_stds=STDS),
)


def anchored(seed, dtype=torch.float32):
    """Inputs of two levels with two anchors each."""
    generator = torch.Generator().manual_seed(seed)

    def levels(width, scale):
        sizes = ((3, 4), (2, 1))
        return [
            scale * torch.randn(2, 2 * width, h, w, generator=generator, dtype=dtype)
            for h, w in sizes
        ]

    return dict(preds_S=levels(4, 1.0), preds_T=levels(4, 1.0), scores_T=levels(WIDTH, 3.0))


def box_at(deltas, level, index, columns):
    """The box of a prior, by its place in the level."""
    cell, anchor = divmod(index, 2)
    y, x = divmod(cell, columns)
    side, stride = SIDES[level][anchor], STRIDES[level]
    dx, dy, dw, dh = (d * std for d, std in zip(deltas.tolist(), STDS, strict=True))
    cx, cy = x * stride + dx * side, y * stride + dy * side
    w, h = side * math.exp(dw), side * math.exp(dh)
    return cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2


def giou(a, b):
    def area(x1, y1, x2, y2):
        return max(x2 - x1, 0) * max(y2 - y1, 0)

    low, high = [list(map(f, a, b)) for f in (min, max)]
    inner = area(*high[:2], *low[2:])
    union = area(*a) + area(*b) - inner
    hull = area(*low[:2], *high[2:])
    return inner / union - (hull - union) / hull


@given(seed=st.integers(0, 10**6))
@settings(max_examples=15, deadline=None)
def test_giou_equals_the_oracle(seed):
    data = anchored(seed, torch.float64)
    total = weights = 0.0
    for i in range(2):
        for level, columns in enumerate((4, 1)):
            parts = (
                rows(data[key][level : level + 1], width, i)
                for key, width in (('preds_S', 4), ('preds_T', 4), ('scores_T', WIDTH))
            )
            for index, (s, t, logits) in enumerate(zip(*parts, strict=True)):
                powers = [math.exp(x) for x in logits.tolist()]
                weight = 1 - powers[-1] / sum(powers)
                boxes = (box_at(deltas, level, index, columns) for deltas in (s, t))
                total += weight * (1 - giou(*boxes))
                weights += weight
    value = TeacherScaledReg(**IOU)(**data)
    assert value.item() == pytest.approx(total / weights, rel=1e-5)  # mmdet adds eps


@pytest.mark.parametrize('kind', ['iou', 'giou', 'diou', 'ciou'])
def test_iou_losses_teach_precise_boxes(kind):
    data = anchored(0)
    loss = TeacherScaledReg(**IOU | dict(box_loss=kind))
    data['preds_S'] = [level.requires_grad_() for level in data['preds_S']]
    optimizer = torch.optim.Adam(data['preds_S'], lr=0.1)
    first = loss(**data).item()
    for _ in range(200):
        optimizer.zero_grad()
        loss(**data).backward()
        optimizer.step()
    assert loss(**data).item() < 0.1 * first


@pytest.mark.parametrize(
    'change, match',
    [
        (dict(box_loss='l1'), "box_loss must be one of smooth_l1, iou, .*got 'l1'"),
        (dict(bbox_coder=None), "box_loss='giou' .*needs prior_generator and bbox_coder"),
        (dict(prior_generator=None), "box_loss='giou' .*needs prior_generator and bbox_coder"),
    ],
)
def test_iou_losses_need_priors_and_coder(change, match):
    with pytest.raises(ValueError, match=match):
        TeacherScaledReg(**IOU | change)


def test_priors_of_another_head_are_refused():
    loss = TeacherScaledReg(**IOU | dict(prior_generator=PRIORS | dict(ratios=[0.5, 1.0, 2.0])))
    with pytest.raises(ValueError, match=r'it makes 84 priors, the maps .* hold 28'):
        loss(**anchored(0))


@pytest.mark.parametrize('changes, inputs', [({}, inputs), (IOU, anchored)], ids=['l1', 'giou'])
def test_gradcheck(changes, inputs):
    data = inputs(3, torch.float64)
    loss = TeacherScaledReg(**changes)

    def by_levels(*levels):
        return loss(list(levels), data['preds_T'], data['scores_T'])

    leaves = [level.requires_grad_() for level in data['preds_S']]
    assert torch.autograd.gradcheck(by_levels, leaves)


def test_by_hand():
    # One level of 1 x 2 cells, 1 anchor, 1 class. Cell 0: logits (ln 3, 0), so w = 3/4; s - t =
    # (2, 0, 0, 0): 2 - 1/2 = 1.5. Cell 1: logits (0, 0), w = 1/2; s - t = (0, 0, 1, 0): 0.5.
    # (3/4 * 1.5 + 1/2 * 0.5) / (3/4 + 1/2) = 1.375 / 1.25 = 1.1.
    student = torch.zeros(1, 4, 1, 2)
    student[0, 0, 0, 0], student[0, 2, 0, 1] = 2, 1
    scores = torch.zeros(1, 2, 1, 2)
    scores[0, 0, 0, 0] = math.log(3)
    loss = TeacherScaledReg()
    value = loss(student, torch.zeros(1, 4, 1, 2), scores)
    assert value.item() == pytest.approx(1.1)
    assert loss.logs['foreground'].item() == pytest.approx(0.625)


def test_a_teacher_that_sees_nothing_teaches_next_to_nothing():
    data = inputs(0)
    sure = [torch.zeros_like(level) for level in data['scores_T']]
    for level in sure:
        level.unflatten(1, (-1, WIDTH))[:, :, -1] = 100.0  # background
    data['preds_S'] = [level.requires_grad_() for level in data['preds_S']]
    value = TeacherScaledReg()(**data | {'scores_T': sure})
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-6)


def test_the_class_maps_get_no_gradient():
    data = inputs(0)
    data['scores_T'] = [level.requires_grad_() for level in data['scores_T']]
    data['preds_S'] = [level.requires_grad_() for level in data['preds_S']]
    TeacherScaledReg()(**data).backward()
    assert all(level.grad is None for level in data['scores_T'])


@pytest.mark.parametrize('changes, inputs', [({}, inputs), (IOU, anchored)], ids=['l1', 'giou'])
def test_priors_below_the_threshold_are_left_out(changes, inputs):
    data = inputs(0)
    weight = [
        foreground(level.unflatten(1, (-1, WIDTH)).movedim(2, -1)) for level in data['scores_T']
    ]
    gated = [
        level.unflatten(1, (-1, WIDTH)).masked_fill((w < 0.5).unsqueeze(2), 0.0)
        for level, w in zip(data['scores_T'], weight, strict=True)
    ]
    for level, w in zip(gated, weight, strict=True):
        level[:, :, -1] += 100.0 * (w < 0.5)  # to the teacher this is background
    expected = TeacherScaledReg(**changes)(
        **data | {'scores_T': [level.flatten(1, 2) for level in gated]}
    )
    value = TeacherScaledReg(**changes, score_thr=0.5)(**data)
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)
    assert value.item() != pytest.approx(TeacherScaledReg(**changes)(**data).item(), rel=1e-3)


def test_a_threshold_that_leaves_nothing_gives_zero_with_a_graph():
    data = anchored(0)
    data['preds_S'] = [level.requires_grad_() for level in data['preds_S']]
    value = TeacherScaledReg(**IOU, score_thr=0.999999)(**data)
    value.backward()
    assert value.item() == 0 and not any(level.grad.any() for level in data['preds_S'])


@pytest.mark.parametrize('score_thr', [-0.1, 1.0])
def test_bad_threshold(score_thr):
    with pytest.raises(ValueError, match='score_thr must be at least 0 and below 1'):
        TeacherScaledReg(score_thr=score_thr)


def test_bad_beta():
    with pytest.raises(ValueError, match='beta must not be negative, got -1'):
        TeacherScaledReg(beta=-1)
