"""Detections of rows against loops."""

from dataclasses import replace

import torch
from hypothesis import given
from hypothesis import strategies as st

from mmkd.heads import Predictions, detections
from tests.losses.test_prediction_rows import iou, rows


@given(
    st.integers(0, 10**6),
    st.floats(0.0, 0.5),
    st.sampled_from([0.3, 0.6, 1.0]),
    st.integers(1, 9),
    st.booleans(),
    st.booleans(),
)
def test_greedy_by_class(seed, score_thr, iou_thr, most, some_valid, one_to_one):
    found = replace(rows(seed, 9, spread=15.0), one_to_one=one_to_one)
    valid = torch.rand(2, 9, generator=torch.Generator().manual_seed(seed)) > 0.3
    found = replace(found, valid=valid if some_valid else None)
    for b, image in enumerate(detections(found, score_thr, iou_thr, most)):
        score, label = found.log_prob[b].exp().max(-1)
        expected = []
        for i in sorted(range(9), key=lambda i: -float(score[i])):
            if score[i] < score_thr or (some_valid and not valid[b, i]):
                continue
            if one_to_one or all(
                label[i] != label[k]
                or iou(found.boxes[b, i].tolist(), found.boxes[b, k].tolist()) <= iou_thr
                for k in expected
            ):
                expected.append(i)
        assert image.rows.tolist() == expected[:most]
        assert torch.equal(image.boxes, found.boxes[b, image.rows])
        assert torch.equal(image.labels, label[image.rows])
        assert torch.equal(image.scores, score[image.rows])


def test_no_rows():
    none = Predictions(torch.zeros(2, 0, 3), torch.zeros(2, 0, 4))
    for image in detections(none, 0.1, 0.5, 10):
        assert image.boxes.shape == (0, 4) and len(image.labels) == 0


def test_half_precision():
    found = rows(0)
    halves = Predictions(found.log_prob.half(), found.boxes.half())
    assert detections(halves, 0.1, 0.5, 5)[0].boxes.dtype == torch.float32
