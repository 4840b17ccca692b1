"""Weighted boxes fusion against plain loops, and what several teachers' rows weigh."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmkd.heads.detections import detections
from mmkd.heads.fusion import JoinedRows, fuse_boxes, joined_detections
from mmkd.heads.predictions import Predictions
from mmkd.losses import PredictionRows


def iou(a, b):
    w = min(a[2], b[2]) - max(a[0], b[0])
    h = min(a[3], b[3]) - max(a[1], b[1])
    inner = max(w, 0) * max(h, 0)
    return inner / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inner)


def by_loops(boxes, scores, labels, shares, thr):
    """The fused boxes, one number at a time."""
    found = []
    for model in range(len(boxes)):
        for n in range(len(boxes[model])):
            found.append((model, boxes[model][n], scores[model][n], labels[model][n]))
    found.sort(key=lambda one: -one[2])  # stable
    clusters: list[list] = []
    for model, box, score, label in found:
        weight = shares[model][label] * score
        if weight <= 0:
            continue
        best, most = None, thr
        for cluster in clusters:
            if cluster[0][3] != label or any(one[0] == model for one in cluster):
                continue
            overlap = iou(box, fused(cluster)[0])
            if overlap > most:
                best, most = cluster, overlap
        if best is None:
            clusters.append([(model, box, weight, label)])
        else:
            best.append((model, box, weight, label))
    made = [(*fused(cluster), cluster[0][3]) for cluster in clusters]
    return sorted(made, key=lambda one: -one[1])


def fused(cluster):
    total = sum(one[2] for one in cluster)
    box = [sum(one[2] * one[1][k] for one in cluster) / total for k in range(4)]
    return box, total


@st.composite
def found_by(draw, models=3, classes=2):
    seed, rng = draw(st.integers(0, 10**6)), None
    rng = np.random.default_rng(seed)
    boxes, scores, labels = [], [], []
    for _ in range(models):
        count = int(rng.integers(0, 6))
        low, size = rng.uniform(0, 12, (count, 2)), rng.uniform(4, 16, (count, 2))
        boxes.append(np.concatenate([low, low + size], 1))
        scores.append(rng.permutation(np.linspace(0.05, 0.95, 40))[:count])
        labels.append(rng.integers(0, classes, count))
    weights = rng.uniform(0.1, 3, (models, 1)) * rng.integers(0, 2, (models, classes))
    shares = weights / np.maximum(weights.sum(0), 1e-9)
    return boxes, scores, labels, shares, float(rng.uniform(0.1, 0.8))


@given(found_by())
def test_fusion_against_plain_loops(found):
    expected = by_loops(*found)
    boxes, scores, labels = fuse_boxes(*found)
    assert len(boxes) == len(expected)
    assert scores.tolist() == pytest.approx([one[1] for one in expected])
    order = (
        np.lexsort((boxes[:, 0], labels)),
        sorted(range(len(expected)), key=lambda i: (expected[i][2], expected[i][0][0])),
    )
    for got, want in zip(*order, strict=True):
        assert boxes[got].tolist() == pytest.approx(expected[want][0])
        assert labels[got] == expected[want][2]


@given(found_by(models=1), st.integers(2, 4))
def test_models_that_are_one_model_find_what_one_finds(found, count):
    boxes, scores, labels, _, thr = (part[0] if isinstance(part, list) else part for part in found)
    shares = np.full((count, 2), 1 / count)
    made = fuse_boxes([boxes] * count, [scores] * count, [labels] * count, shares, thr)
    order = np.argsort(-scores, kind='stable')
    for got, own in zip(made, (boxes, scores, labels), strict=True):
        np.testing.assert_allclose(got, own[order], rtol=1e-12)


def rows(*scores, shift=0.0):
    """A row for each of the scores (of two classes), side by side."""
    left = 20.0 * torch.arange(len(scores))
    boxes = torch.stack([left + shift, left * 0, left + 16 + shift, left * 0 + 16], 1)
    return Predictions(torch.tensor([scores]).log(), boxes[None], one_to_one=True)


def test_an_object_that_one_of_two_finds_is_half_as_sure():
    first, second = rows((0.8, 0.0), (0.6, 0.0)), rows((0.4, 0.0), shift=4.0)
    [found] = joined_detections(JoinedRows([first, second], [1, 1], [None, None]), 0.01, 0.5, 9)
    assert found.scores.tolist() == pytest.approx([0.6, 0.3])
    assert found.boxes[0].tolist() == pytest.approx([4 / 3, 0, 16 + 4 / 3, 16])
    owned = JoinedRows([first, second], [1, 1], [[True, False], [False, True]])
    [found] = joined_detections(owned, 0.01, 0.5, 9)
    assert found.scores.tolist() == pytest.approx([0.8, 0.6])  # the one that knows the class
    with_weights = JoinedRows([first, second], [3, 1], [None, None])
    [found] = joined_detections(with_weights, 0.3, 0.5, 9)
    assert found.scores.tolist() == pytest.approx([0.7, 0.45])


def test_two_teachers_that_are_one_detect_what_one_detects():
    draw = torch.Generator().manual_seed(0)
    score = torch.rand(2, 30, 3, generator=draw)
    low = torch.rand(2, 30, 2, generator=draw) * 30
    boxes = torch.cat([low, low + 8 + torch.rand(2, 30, 2, generator=draw) * 16], -1)
    for one_to_one in (False, True):
        one = Predictions(score.log(), boxes, one_to_one=one_to_one)
        alone = detections(one, 0.1, 0.6, 20)
        both = joined_detections(JoinedRows([one, one], [2.0, 1.0], [None, None]), 0.1, 0.6, 20)
        for own, joined in zip(alone, both, strict=True):
            assert torch.equal(own.labels, joined.labels)
            torch.testing.assert_close(own.boxes, joined.boxes)
            torch.testing.assert_close(own.scores, joined.scores)


def one_row(score, box, seen=None):
    """A row of two classes in each of two images."""
    log_prob = torch.tensor([[score]] * 2).log()
    boxes = torch.tensor([[box]] * 2)
    return Predictions(
        log_prob, boxes, one_to_one=True, seen=None if seen is None else torch.tensor(seen)
    )


def test_where_one_did_not_look_the_others_teach():
    one = one_row([0.8, 0.1], [0.0, 0, 8, 8])
    other = one_row([0.4, 0.1], [1.0, 0, 9, 8], [True, False])
    joined = JoinedRows([one, other], [1.0, 3.0], [None, None])
    assert joined.seen.all() and joined.looked.tolist() == [[True, True], [True, False]]
    both, alone = joined_detections(joined, 0.05, 0.5, 10)
    torch.testing.assert_close(both.scores, torch.tensor([0.25 * 0.8 + 0.75 * 0.4]))
    torch.testing.assert_close(alone.scores, torch.tensor([0.8]))
    assert alone.boxes.tolist() == [[0, 0, 8, 8]]
    student = one_row([0.3, 0.2], [0.0, 0, 8, 8.0])
    second = torch.tensor([1])
    loss = PredictionRows()
    expected = loss(student.of_images(second), one.of_images(second))
    found = loss(student.of_images(second), joined.of_images(second))
    torch.testing.assert_close(found, expected)
    assert loss(student, joined).isfinite() and not loss.untold


def test_but_not_of_classes_that_these_do_not_know():
    """They would be background there."""
    one = one_row([0.8, 1e-9], [0.0, 0, 8, 8])
    other = one_row([0.4, 0.5], [1.0, 0, 9, 8], [True, False])
    for taught, seen in (
        ([[True, False], [True, True]], [True, False]),
        ([[True, True], [True, False]], [True, True]),
        ([[True, False], [True, False]], [True, True]),  # of which nobody teaches anything
    ):
        assert JoinedRows([one, other], [1.0, 1.0], taught).seen.tolist() == seen
    nobody = JoinedRows([other.of_images(torch.tensor([1]))] * 2, [1.0, 1.0], [None, None])
    assert not nobody.seen.any() and nobody.by_image()[1].tolist() == [[0.5], [0.5]]
    loss = PredictionRows()
    assert loss(one_row([0.3, 0.2], [0.0, 0, 8, 8.0]).of_images(torch.tensor([1])), nobody) == 0
    assert loss.untold
    assert JoinedRows([one, one], [1.0, 1.0], [None, None]).seen is None
