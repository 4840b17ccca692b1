"""Predictions and maps brought to the classes of both models, against plain loops."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mmkd.connectors import SharedClasses, TaughtClasses
from mmkd.heads.class_map import ClassMap
from mmkd.heads.mapped_classes import own_rows, taught_maps, taught_rows
from mmkd.heads.predictions import Predictions
from mmkd.recorders.loss_pass import LossPass
from mmkd.recorders.queries_recorder import QueryRun
from tests.heads.test_class_map import by_loops, maps


def rows_of(classes: int, softmax: bool, seed: int, quality: bool = False, own_boxes: bool = False):
    """Random rows (2, 3) in float64."""
    draw = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 3, classes + 1, generator=draw, dtype=torch.float64) * 2
    log_prob = logits.log_softmax(-1)[..., :-1] if softmax else logits[..., :-1].sigmoid().log()
    factor = torch.rand(2, 3, 1, generator=draw, dtype=torch.float64).log() if quality else None
    boxes = torch.rand(2, 3, classes, 4, generator=draw, dtype=torch.float64)
    best = log_prob.argmax(-1)[..., None, None].expand(-1, -1, 1, 4)
    return Predictions(
        log_prob if factor is None else log_prob + factor,
        boxes.gather(2, best)[:, :, 0] if own_boxes else boxes[:, :, 0],
        quality=factor,
        class_boxes=boxes if own_boxes else None,
    )


def found_map(found) -> ClassMap | None:
    teacher, student, said = found
    if all(said.get(name, name) not in student for name in teacher):
        return None
    return ClassMap.from_names(teacher, student, said)


@given(maps(), st.booleans(), st.booleans(), st.booleans(), st.integers(0, 99))
def test_rows_of_a_teacher(found, softmax, shared, quality, seed):
    classes = found_map(found)
    if classes is None:
        return
    teacher, student, said = found
    rows = rows_of(len(teacher), softmax, seed, quality, own_boxes=True)
    made = taught_rows(rows, classes, softmax, shared=shared)
    kept = [s for s, known in enumerate(classes.matched) if known or not shared]
    assert made.log_prob.shape == (2, 3, len(kept))
    for b in range(2):
        for p in range(3):
            factor = 1.0 if rows.quality is None else float(rows.quality[b, p, 0].exp())
            scores = [float(v) / factor for v in rows.log_prob[b, p].exp()]
            expected = [s * factor for s in by_loops(scores, teacher, student, said, softmax)]
            got = made.log_prob[b, p].exp().tolist()
            assert got == pytest.approx([expected[s] for s in kept], rel=1e-6, abs=1e-30)
            best, box = -1.0, None
            for place, s in enumerate(kept):
                partners = [t for t, own in enumerate(classes.places) if own == s]
                if not partners:
                    continue
                surest = max(partners, key=lambda t: scores[t])
                assert made.class_boxes is not None and rows.class_boxes is not None
                assert torch.equal(made.class_boxes[b, p, place], rows.class_boxes[b, p, surest])
                if expected[s] > best:
                    best, box = expected[s], rows.class_boxes[b, p, surest]
            assert torch.equal(made.boxes[b, p], box)


@given(st.lists(st.booleans(), min_size=1, max_size=5).filter(any), st.booleans(), st.booleans())
def test_rows_of_a_student(known, softmax, quality):
    rows = rows_of(len(known), softmax, 1, quality)
    made = own_rows(rows, known, softmax)
    for b in range(2):
        for p in range(3):
            factor = 1.0 if rows.quality is None else float(rows.quality[b, p, 0].exp())
            scores = [float(v) / factor for v in rows.log_prob[b, p].exp()]
            left = 1.0
            for score, one in zip(scores, known, strict=True):
                left -= score if softmax and not one else 0.0
            expected = [s / left * factor for s, one in zip(scores, known, strict=True) if one]
            assert made.log_prob[b, p].exp().tolist() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize('softmax', [False, True])
def test_gradients_of_a_student_and_of_a_teachers_head(softmax):
    start = rows_of(3, softmax, 2).log_prob
    boxes = torch.zeros(2, 3, 4, dtype=torch.float64)
    classes = ClassMap.from_names(('a', 'b', 'c'), ('b', 'd'), dict(a='b'))

    def own(log_prob: Tensor) -> Tensor:
        return own_rows(Predictions(log_prob, boxes), [True, False, True], softmax).log_prob

    def taught(log_prob: Tensor) -> Tensor:
        return taught_rows(Predictions(log_prob, boxes), classes, softmax).log_prob

    for function in (own, taught):
        assert torch.autograd.gradcheck(function, start.clone().requires_grad_())


def test_a_certain_class_that_is_dropped_leaves_finite_numbers_and_gradients():
    log_prob = torch.tensor([[[0.0, -200.0]]], requires_grad=True)
    made = own_rows(Predictions(log_prob, torch.zeros(1, 1, 4)), [False, True], True)
    made.logits.sum().backward()
    assert bool(log_prob.grad.isfinite().all()) and bool(made.log_prob.isfinite().all())


@given(maps(), st.sampled_from(['softmax', 'sigmoid', 'activated']), st.integers(0, 99))
def test_raw_maps(found, kind, seed):
    classes = found_map(found)
    if classes is None or classes.untaught:
        return
    teacher, student, said = found
    softmax = kind == 'softmax'
    width = len(teacher) + softmax
    draw = torch.Generator().manual_seed(seed)
    level = torch.randn(2, 2 * width, 1, 2, generator=draw, dtype=torch.float64)
    level = level.sigmoid() if kind == 'activated' else level
    [made] = taught_maps([level], classes, softmax, kind == 'activated')
    own_width = len(student) + softmax
    assert made.shape == (2, 2 * own_width, 1, 2)
    for b in range(2):
        for a in range(2):
            for x in range(2):
                raw = level[b, a * width : (a + 1) * width, 0, x]
                got = made[b, a * own_width : (a + 1) * own_width, 0, x]
                if softmax:
                    scores, got = raw.softmax(0)[:-1].tolist(), got.softmax(0)[:-1]
                elif kind == 'sigmoid':
                    scores, got = raw.sigmoid().tolist(), got.sigmoid()
                else:
                    scores = raw.tolist()
                expected = by_loops(scores, teacher, student, said, softmax)
                assert got.tolist() == pytest.approx(expected, abs=2e-6)


def test_a_class_with_one_partner_is_exactly_what_the_teacher_said():
    classes = ClassMap.from_names(('a', 'b', 'c'), ('c', 'a'))
    rows, level = rows_of(3, False, 3), torch.randn(1, 6, 2, 2)
    assert torch.equal(taught_rows(rows, classes, False).log_prob, rows.log_prob[..., [2, 0]])
    [made] = taught_maps([level], classes, False)
    assert torch.equal(made, level[:, [2, 0, 5, 3]])


def test_connectors_take_each_form():
    link = TaughtClasses(['a', 'b'], ['b'], softmax=False)
    rows = rows_of(2, False, 4)
    for feature in ([rows, rows], (rows,)):
        made = link(feature)
        assert type(made) is type(feature) and all(r.log_prob.shape[-1] == 1 for r in made)
    maps = [torch.zeros(1, 4, 2, 2), torch.zeros(1, 4, 1, 1)]
    assert [m.shape[1] for m in link(maps)] == [2, 2] and link(maps[0]).shape == (1, 2, 2, 2)
    cls, box = link((maps, maps))
    assert [m.shape[1] for m in cls] == [2, 2] and box is maps
    own = SharedClasses([True, False], softmax=False)
    assert own(LossPass([], None)).untaught == (1,)
    run = own(QueryRun([rows], torch.ones(2, 4)))
    assert run.layers[0].log_prob.shape[-1] == 1 and math.isclose(float(run.sizes.sum()), 8)
