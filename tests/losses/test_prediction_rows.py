"""Rows against loops over images, boxes and classes."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmkd.heads import Predictions
from mmkd.losses import PredictionRows
from mmkd.losses.functional.row_targets import same_rows, targets_by_overlap
from tests.losses.contract import LossCase, apply


def rows(seed, count=12, images=2, classes=3, priors=False, spread=40.0, logit=-1.0):
    generator = torch.Generator().manual_seed(seed)

    def rand(*shape):
        return torch.rand(*shape, generator=generator)

    centre, size = rand(images, count, 2) * spread, 6 + rand(images, count, 2) * 20
    log_prob = torch.nn.functional.logsigmoid(rand(images, count, classes) * 4 + logit - 2)
    grid = None
    if priors:
        grid = torch.cat([rand(count, 2) * spread, 2 + 6 * rand(count, 1).expand(-1, 2)], 1)
    return Predictions(log_prob, torch.cat([centre - size / 2, centre + size / 2], -1), grid)


def empty():
    """The teacher sees nothing."""
    nothing = Predictions(torch.full((2, 5, 3), -1e4), rows(1, 5).boxes)
    quiet = Predictions(torch.full((2, 6, 3), -1e4), rows(0, 6).boxes)
    return dict(preds_S=quiet, preds_T=nothing)


CASE = LossCase(
    build=PredictionRows,
    inputs=lambda seed: dict(preds_S=rows(seed), preds_T=rows(seed + 100, 9)),
    empty=empty,
    faults=(
        (
            lambda i: i | {'preds_S': [torch.zeros(1, 1, 2, 2)]},
            "Record it with `type='Predictions'",
        ),
        (lambda i: i | {'preds_T': rows(1, classes=4)}, 'score the same classes'),
        (lambda i: i | {'preds_T': rows(1, images=1)}, 'see the same images'),
    ),
    zero_at_equal=False,  # by overlap a student learns of its surest rows alone
    log_keys=('cls', 'box'),
)


def iou(a, b, generalised=False):
    w = min(a[2], b[2]) - max(a[0], b[0])
    h = min(a[3], b[3]) - max(a[1], b[1])
    inter = max(w, 0) * max(h, 0)
    union = sum((c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)) - inter
    if not generalised:
        return inter / union
    hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    return inter / union - (hull - union) / hull


def by_loops(S, T, top_k, k, box_weight, equal):
    """The loss of :class:`PredictionRows`, spelled out."""
    cls, q_sum, box, w_sum = 0.0, 0.0, 0.0, 0.0
    valid = torch.ones(S.log_prob.shape[:2], dtype=torch.bool) if S.valid is None else S.valid
    for b in range(len(S.log_prob)):
        prob_T = T.log_prob[b].exp().tolist()
        boxes_S, boxes_T = S.boxes[b].tolist(), T.boxes[b].tolist()
        count, classes = S.log_prob.shape[1:]
        q = [[0.0] * classes for _ in range(count)]
        pairs = []
        if equal:
            for i in range(count):
                if valid[b, i]:
                    q[i] = prob_T[i]
                    pairs.append((i, i, max(prob_T[i])))
        else:
            for j in suppressed(T, b, top_k):
                t = boxes_T[j]
                found = []
                for i, s in enumerate(boxes_S):
                    choice, centre = iou(s, t), ((s[0] + s[2]) / 2, (s[1] + s[3]) / 2)
                    if S.priors is not None:
                        centre, stride = S.priors[i, :2].tolist(), float(S.priors[i, 2])
                        side = math.sqrt((t[2] - t[0]) * (t[3] - t[1]))
                        choice += 0.1 * math.exp(-abs(math.log2(side / (4 * stride))))
                    inside = t[0] < centre[0] < t[2] and t[1] < centre[1] < t[3]
                    if inside and valid[b, i] and choice > 0:
                        found.append((choice, i, iou(s, t)))
                found = sorted(found, reverse=True)[:k]
                best = max([f[2] for f in found], default=0)
                for _, i, overlap in found:
                    pairs.append((i, j, max(prob_T[j])))
                    for c in range(classes):
                        aligned = overlap / max(best, 1e-6)
                        q[i][c] = max(q[i][c], aligned * prob_T[j][c])
        for i in range(count):
            for c in range(classes):
                p = float(S.log_prob[b, i, c].exp())
                bce = -q[i][c] * math.log(p) - (1 - q[i][c]) * math.log(1 - p)
                cls += abs(q[i][c] - p) * bce * float(valid[b, i])
                q_sum += q[i][c]
        for i, j, w in pairs:
            box += w * (1 - iou(boxes_S[i], boxes_T[j], generalised=True))
            w_sum += w
    return cls / max(q_sum, 1) + box_weight * box / max(w_sum, 1)


@given(
    st.integers(0, 10**6),
    st.booleans(),
    st.booleans(),
    st.integers(1, 12),
    st.integers(1, 14),
    st.floats(2, 40),
)
def test_by_overlap(seed, priors, some_valid, top_k, candidates, spread):
    S, T = rows(seed, priors=priors), rows(seed + 1, 9, spread=spread)
    if some_valid:
        valid = torch.rand(2, 12, generator=torch.Generator().manual_seed(seed)) > 0.3
        S = Predictions(S.log_prob, S.boxes, S.priors, valid=valid)
    loss = PredictionRows(top_k=top_k, candidates=candidates)
    expected = by_loops(S, T, top_k, candidates, 2.0, equal=False)
    assert loss(S, T).item() == pytest.approx(expected, rel=1e-3)
    assert sum(loss.logs.values()).item() == pytest.approx(expected, rel=1e-3)


@given(st.integers(0, 10**6), st.booleans())
def test_row_by_row_where_priors_are_equal(seed, some_valid):
    S, T = rows(seed, priors=True), rows(seed + 1)
    valid = None
    if some_valid:
        valid = torch.rand(2, 12, generator=torch.Generator().manual_seed(seed)) > 0.3
    S = Predictions(S.log_prob, S.boxes, S.priors, valid=valid)
    T = Predictions(T.log_prob, T.boxes, S.priors + 1e-5)
    assert same_rows(S, T) and not same_rows(S, rows(seed, priors=True, count=11))
    assert PredictionRows()(S, T).item() == pytest.approx(
        by_loops(S, T, 0, 0, 2.0, equal=True), rel=1e-3
    )
    assert PredictionRows()(apply(T, torch.clone), T).item() == pytest.approx(0, abs=1e-6)


def test_filling_of_the_teacher_teaches_nothing():
    S, T = rows(0), rows(1, 9)
    filled = Predictions(
        torch.cat([T.log_prob, torch.zeros(2, 4, 3)], 1),
        torch.cat([T.boxes, rows(2, 4).boxes], 1),
        valid=torch.tensor([[True] * 9 + [False] * 4] * 2),
    )
    assert PredictionRows(top_k=9)(S, filled).item() == pytest.approx(
        PredictionRows(top_k=9)(S, T).item()
    )


def test_fewer_rows_than_asked_for():
    S, T = rows(0, 2), rows(1, 3)
    found = targets_by_overlap(S, T, 20, 9)
    assert found.rows.shape == (2, 6) and PredictionRows()(S, T).isfinite()
    none = Predictions(torch.zeros(2, 0, 3), torch.zeros(2, 0, 4))
    assert PredictionRows()(S, none).isfinite()
    assert PredictionRows()(none, T).item() == 0


def suppressed(T, b, top_k):
    """Which rows of the teacher show an object of their own, the surest first."""
    prob, boxes = T.log_prob[b].exp().tolist(), T.boxes[b].tolist()
    kept = []
    for j in sorted(range(len(prob)), key=lambda j: -max(prob[j])):
        label = prob[j].index(max(prob[j]))
        if all(
            prob[k].index(max(prob[k])) != label or iou(boxes[k], boxes[j]) <= 0.65 for k in kept
        ):
            kept.append(j)
    return kept[:top_k]


def bce(q, p):
    return -q * math.log(p) - (1 - q) * math.log(1 - p)


def one_to_one_by_loops(S, T, top_k, box_weight):
    """The loss for a student without NMS, the pairing by trying all."""
    cls, q_sum, box, w_sum = 0.0, 0.0, 0.0, 0.0
    for b in range(len(S.log_prob)):
        prob_S, prob_T = S.log_prob[b].exp().tolist(), T.log_prob[b].exp().tolist()
        boxes_S, boxes_T = S.boxes[b].tolist(), T.boxes[b].tolist()
        objects = suppressed(T, b, min(top_k, len(prob_S)))

        costs = [
            [
                2 * (1 - iou(box_S, boxes_T[j], generalised=True))
                + sum(map(bce, prob_T[j], prob_S[i]))
                for j in objects
            ]
            for i, box_S in enumerate(boxes_S)
        ]
        choices = itertools.permutations(range(len(prob_S)), len(objects))
        total = {rows: sum(costs[i][k] for k, i in enumerate(rows)) for rows in choices}
        rows = min(total, key=total.get)
        targets = dict(zip(rows, objects, strict=True))
        for i, p in enumerate(prob_S):
            q = prob_T[targets[i]] if i in targets else [0.0] * len(p)
            cls += sum(abs(a - c) * bce(a, c) for a, c in zip(q, p, strict=True))
            q_sum += sum(q)
        for i, j in targets.items():
            box += max(prob_T[j]) * (1 - iou(boxes_S[i], boxes_T[j], generalised=True))
            w_sum += max(prob_T[j])
    return cls / max(q_sum, 1) + box_weight * box / max(w_sum, 1)


@given(st.integers(0, 10**6), st.integers(1, 4), st.floats(5, 40))
@settings(max_examples=40)
def test_a_student_without_nms_learns_each_object_once(seed, top_k, spread):
    S, T = replace(rows(seed, 4), one_to_one=True), rows(seed + 1, 5, spread=spread)
    loss = PredictionRows(top_k=top_k)
    expected = one_to_one_by_loops(S, T, top_k, 2.0)
    assert loss(S, T).item() == pytest.approx(expected, rel=1e-3)
    # Rows that do not count are not chosen.
    more = replace(
        apply(S, lambda t: torch.cat([t, t], 1)), valid=torch.tensor([[True] * 4 + [False] * 4] * 2)
    )
    assert loss(more, T).item() == pytest.approx(expected, rel=1e-3)


def test_nothing_to_pair():
    S = replace(rows(0, 3), one_to_one=True)
    none = Predictions(torch.zeros(2, 0, 3), torch.zeros(2, 0, 4))
    assert PredictionRows()(S, none) > 0, 'it learns that there is nothing'
    assert PredictionRows()(replace(none, one_to_one=True), rows(1)).item() == 0
    hidden = replace(S, valid=torch.zeros(2, 3, dtype=torch.bool))
    assert PredictionRows()(hidden, rows(1)).item() == 0


@pytest.mark.parametrize('kind', ['equal priors', 'overlap', 'one to one'])
def test_gradcheck(kind):
    """The choice of rows is no part of the graph: by overlap it moves with the boxes."""
    S, T = (apply(rows(seed, 5, priors=True), torch.Tensor.double) for seed in (0, 1))
    T = replace(T, priors=S.priors if kind == 'equal priors' else None)
    S = replace(S, one_to_one=kind == 'one to one')

    def by_rows(log_prob, boxes):
        return PredictionRows()(replace(S, log_prob=log_prob, boxes=boxes), T)

    leaves = S.log_prob.requires_grad_(), S.boxes.requires_grad_(kind != 'overlap')
    assert torch.autograd.gradcheck(by_rows, leaves)


@pytest.mark.parametrize('name', ['top_k', 'candidates'])
def test_numbers_must_be_positive(name):
    with pytest.raises(ValueError, match=f'{name} must be at least 1, got 0'):
        PredictionRows(**{name: 0})
