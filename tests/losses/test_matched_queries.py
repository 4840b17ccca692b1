"""Queries paired by trying all, and the three distances in loops."""

import itertools
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmkd.losses import MatchedQueries
from mmkd.recorders.queries_recorder import QueryRun
from tests.losses.contract import LossCase, apply
from tests.losses.test_prediction_rows import bce, iou, rows

SIZES = torch.tensor([[50.0, 40.0, 50.0, 40.0], [64.0, 64.0, 64.0, 64.0]])
WEIGHTS = dict(cls=1.0, l1=5.0, giou=2.0)


def layers(seed, depth=2, queries=4, **options):
    made = [rows(seed + 10 * k, queries, **options) for k in range(depth)]
    return [replace(layer, one_to_one=True) for layer in made]


def run(seed, depth=2):
    return QueryRun(layers(seed, depth), SIZES)


class OneSize(QueryRun):
    """All images are alike: the contract, which turns tensors around, does not see their sizes."""

    sizes = property(lambda self: SIZES[:1].expand(len(self.layers[0].boxes), 4), lambda *_: None)


CASE = LossCase(
    build=MatchedQueries,
    inputs=lambda seed: dict(
        preds_S=OneSize(layers(seed), SIZES), preds_T=layers(seed + 100, queries=3)
    ),
    empty=None,  # a query always predicts something; see below
    faults=(
        (lambda i: i | {'preds_T': i['preds_T'][0]}, "`type='Predictions', layers='all'`"),
        (lambda i: i | {'preds_T': [torch.zeros(1)]}, 'preds_T must be the rows of the decoder'),
        (lambda i: i | {'preds_S': i['preds_T']}, "preds_S must be recorded with `type='Queries'`"),
        (lambda i: i | {'preds_T': layers(0, classes=4)}, 'score the same classes'),
        (lambda i: i | {'preds_T': layers(0, images=1)}, 'see the same images'),
    ),
    zero_at_equal=False,  # a cross-entropy with soft targets is not 0 at its least
    log_keys=('cls', 'l1', 'giou'),
)


def distances(S, T, b, i, j):
    s, t = S.boxes[b, i].tolist(), T.boxes[b, j].tolist()
    p, q = S.log_prob[b, i].exp().tolist(), T.log_prob[b, j].exp().tolist()
    width, height = SIZES[b, :2].tolist()

    def place(box):
        x1, y1, x2, y2 = box
        return (x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height

    return dict(
        cls=sum(map(bce, q, p)),
        l1=sum(abs(a - c) for a, c in zip(place(s), place(t), strict=True)),
        giou=1 - iou(s, t, generalised=True),
    )


def by_loops(S, T, top_k, weighted):
    total = 0.0
    for i, own in enumerate(S.layers):
        other = T[-(-(i + 1) * len(T) // len(S.layers)) - 1]
        layer, whole = 0.0, 0.0
        for b in range(2):
            scores = [max(q) for q in other.log_prob[b].exp().tolist()]
            taken = sorted(range(len(scores)), key=lambda j: -scores[j])[:top_k]
            table = {
                (r, j): sum(WEIGHTS[k] * d for k, d in distances(own, other, b, r, j).items())
                for r in range(own.boxes.size(1))
                for j in taken
            }
            choices = itertools.permutations(range(own.boxes.size(1)), len(taken))
            best = min(
                choices, key=lambda c: sum(table[pair] for pair in zip(c, taken, strict=True))
            )
            for r, j in zip(best, taken, strict=True):
                weight = scores[j] if weighted else 1.0
                layer, whole = layer + weight * table[r, j], whole + weight
        total += layer / max(whole, 1)
    return total


@given(st.integers(0, 10**6), st.integers(1, 4), st.sampled_from([1, 2, 3]), st.booleans())
@settings(max_examples=25)
def test_equals_the_oracle(seed, top_k, depth, weighted):
    """Also of decoders of other depths."""
    S, T = run(seed), layers(seed + 1, depth, 3)
    loss = MatchedQueries(top_k=top_k, weighted=weighted)
    expected = by_loops(S, T, top_k, weighted)
    assert loss(S, T).item() == pytest.approx(expected, rel=1e-3)
    assert sum(loss.logs.values()).item() == pytest.approx(expected, rel=1e-3)


def test_rows_that_do_not_count():
    S, T = run(0), layers(1, queries=3)
    expected = MatchedQueries()(S, T).item()
    more = [
        replace(
            apply(layer, lambda t: torch.cat([t, t], 1)),
            valid=torch.tensor([[True] * 4 + [False] * 4] * 2),
        )
        for layer in S.layers
    ]
    assert MatchedQueries()(replace(S, layers=more), T).item() == pytest.approx(expected, rel=1e-5)
    hidden = [replace(layer, valid=torch.zeros(2, 4, dtype=torch.bool)) for layer in S.layers]
    assert MatchedQueries()(replace(S, layers=hidden), T).item() == 0


def test_a_teacher_that_sees_nothing_teaches_nothing():
    S, T = run(0), layers(1, queries=3)
    blind = [replace(r, log_prob=torch.full_like(r.log_prob, -1e4)) for r in T]
    leaves = [layer.log_prob.requires_grad_() for layer in S.layers]
    value = MatchedQueries()(S, blind)
    value.backward()
    assert value.item() == 0 and not any(leaf.grad.any() for leaf in leaves)


def test_gradcheck():
    S = apply(run(0), torch.Tensor.double)
    T = [apply(layer, torch.Tensor.double) for layer in layers(1, queries=3)]
    first, last = S.layers

    def by_rows(log_prob, boxes):
        own = replace(first, log_prob=log_prob, boxes=boxes)
        return MatchedQueries()(replace(S, layers=[own, last]), T)

    leaves = first.log_prob.requires_grad_(), first.boxes.requires_grad_()
    assert torch.autograd.gradcheck(by_rows, leaves)
