"""Rows of equal priors against loops."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmkd.heads import Predictions
from mmkd.losses import DisagreementRows
from tests.losses.contract import LossCase
from tests.losses.test_prediction_rows import bce, iou, rows

GRID = rows(0, 8, priors=True).priors


class OnGrid(Predictions):
    """The priors are of no image: the contract, which turns tensors around, does not see them."""

    priors = property(lambda self: GRID, lambda self, value: None)


def hidden(seed, **options):
    made = rows(seed, 8, **options)
    return OnGrid(made.log_prob, made.boxes)


def empty():
    """The scores of both are 0."""
    boxes = rows(0, 8).boxes
    return {key: OnGrid(torch.full((2, 8, 3), -1e4), boxes) for key in ('preds_S', 'preds_T')}


CASE = LossCase(
    build=DisagreementRows,
    inputs=lambda seed: dict(preds_S=hidden(seed), preds_T=hidden(seed + 100)),
    empty=empty,
    faults=(
        (lambda i: i | {'preds_S': [torch.zeros(1, 1, 2, 2)]}, "Record it with `type='Pred"),
        (lambda i: i | {'preds_T': hidden(1, classes=4)}, 'must have the same classes and priors'),
        (lambda i: i | {'preds_T': rows(1, 8)}, 'of the same priors: False. Take PredictionRows'),
        (lambda i: i | {'preds_T': replace(on_grid(1), priors=GRID + 1)}, 'same priors: False'),
    ),
    log_keys=('cls', 'box', 'gap'),
)


def on_grid(seed, valid=None, double=False, **options):
    made = rows(seed, 8, **options)
    made = replace(made, priors=GRID, valid=valid)
    if double:
        made = replace(made, log_prob=made.log_prob.double(), boxes=made.boxes.double())
    return made


def by_loops(S, T, box_weight, num_pos=None):
    cls, box, whole, largest, rows_there = 0.0, 0.0, 0.0, 0.0, 0
    for b in range(len(S.boxes)):
        for i in range(S.boxes.size(1)):
            if any(r.valid is not None and not r.valid[b, i] for r in (S, T)):
                continue
            p, q = (r.log_prob[b, i].exp().tolist() for r in (S, T))
            gaps = [abs(x - y) for x, y in zip(p, q, strict=True)]
            cls += sum(g * bce(y, x) for g, x, y in zip(gaps, p, q, strict=True))
            overlap = iou(S.boxes[b, i].tolist(), T.boxes[b, i].tolist(), generalised=True)
            box += max(gaps) * (1 - overlap)
            whole, largest, rows_there = whole + max(q), largest + max(gaps), rows_there + 1
    whole = max(whole if num_pos is None else num_pos, 1)
    return (cls + box_weight * box) / whole, largest / max(rows_there, 1)


@given(st.integers(0, 10**6), st.booleans(), st.sampled_from([None, 0, 7]), st.floats(0, 5))
@settings(max_examples=30)
def test_equals_the_oracle(seed, some_valid, num_pos, box_weight):
    masks = torch.rand(2, 2, 8, generator=torch.Generator().manual_seed(seed)) > 0.3
    S, T = (on_grid(seed + k, masks[k] if some_valid else None, double=True) for k in (0, 1))
    loss = DisagreementRows(box_weight=box_weight)
    expected, gap = by_loops(S, T, box_weight, num_pos)
    assert loss(S, T, num_pos).item() == pytest.approx(expected, rel=1e-5)
    assert loss.logs['gap'].item() == pytest.approx(gap, rel=1e-5)
    parts = loss.logs['cls'] + loss.logs['box']
    assert parts.item() == pytest.approx(expected, rel=1e-5)


def test_gradient():
    """Gradcheck of the classes; of the boxes the weight is no part of the graph."""
    S, T = on_grid(0, double=True), on_grid(1, double=True)

    def of_classes(log_prob):
        return DisagreementRows(box_weight=0.0)(replace(S, log_prob=log_prob), T)

    def of_boxes(boxes):
        return DisagreementRows()(replace(S, boxes=boxes), T)

    assert torch.autograd.gradcheck(of_classes, S.log_prob.requires_grad_())
    assert torch.autograd.gradcheck(of_boxes, S.boxes.requires_grad_())
    assert torch.allclose(
        torch.autograd.grad(DisagreementRows()(S, T), S.log_prob)[0],
        torch.autograd.grad(of_classes(S.log_prob), S.log_prob)[0],
    )
