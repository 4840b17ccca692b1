"""Of what a teacher keeps of one object under two of its classes, one shows it to the student."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mmkd  # noqa: F401

# isort: split
from mmdet.structures.bbox import bbox_overlaps

from mmkd.detections.student_classes import SAME, one_of_each
from mmkd.teachers.given_detections import LiveDetections
from mmkd.teachers.outside_detectors import FunctionDetector
from tests.detections.test_results_file import INFOS, fit, row

ROW = st.tuples(
    st.lists(st.integers(0, 12), min_size=4, max_size=4),
    st.integers(0, 3),
    st.lists(st.floats(0, 1, width=16), min_size=3, max_size=3),
    st.booleans(),
)


@given(st.lists(ROW, max_size=8))
def test_each_object_is_shown_once(rows):
    boxes = np.array([[x, y, x + w + 4, y + h + 4] for (x, y, w, h), *_ in rows]).reshape(-1, 4)
    labels, soft = np.array([r[1] for r in rows], int), np.array([r[3] for r in rows], bool)
    scores = np.array([r[2] for r in rows], np.float32).reshape(-1, 3)
    kept, found = one_of_each(boxes, labels, scores, soft)
    surest = scores.argmax(1) if rows else kept
    tensors = torch.tensor(boxes, dtype=torch.float32)
    overlap = bbox_overlaps(tensors, tensors).numpy()
    # Boxes of whole pixels: rounding does not decide.
    rivals = (overlap > SAME + 1e-6) & (labels[:, None] != labels) & (surest[:, None] == surest)
    assert not rivals[np.ix_(kept, kept)].any()
    for i in set(range(len(rows))) - set(kept):
        others = [j for j in kept if rivals[i, j]]
        assert any(scores[j].max() >= scores[i].max() for j in others)
    for place, i in enumerate(kept):
        assert soft[i] <= (found[place] == scores[i]).all() and (found[place] <= 1).all()
    alone = np.zeros(len(rows), int)  # of one class all are objects of their own
    assert one_of_each(boxes, alone, scores, soft)[1] is scores


CAR, TRUCK = [10, 20, 30, 40], [11, 20, 30, 40]


def test_soft_rows_that_a_detector_keeps_for_a_minor_class(tmp_path):
    """Among cars the second box was suppressed by the first; it stayed as the best truck."""
    told = dict(classes=['a', 'b', 'c'], images=[])
    rows = [
        row(category_name='a', score=0.9, bbox=CAR, distribution=[0.9, 0.06, 0]),
        row(category_name='b', score=0.07, bbox=TRUCK, distribution=[0.8, 0.07, 0]),
        row(category_name='b', score=0.7, bbox=CAR, distribution=[0.1, 0.7, 0]),
        row(category_name='b', score=0.3, bbox=[60, 20, 30, 40], distribution=[0.4, 0.3, 0]),
    ]
    found, tally = fit(tmp_path, *rows, **told)
    wanted = torch.tensor([[0.9, 0.06, 0], [0.1, 0.7, 0], [0.4, 0.3, 0]])
    torch.testing.assert_close(found.of(INFOS[0])[1], wanted)
    assert tally.left_out['detections of objects that a surer one shows left out'] == 1
    bare = [{k: v for k, v in one.items() if k != 'distribution'} for one in rows]
    found, tally = fit(tmp_path, *bare, **told)
    assert len(found.of(INFOS[0])[0]) == 4 and not tally.left_out


@pytest.mark.parametrize('soft', [False, True])
def test_two_classes_that_are_one_are_one_object(tmp_path, soft):
    """Whose probability is their sum."""
    told = dict(classes=['car', 'truck', 'b'], images=[])
    each = [0.5, 0.3, 0.0]
    rows = [
        row(category_name='car', score=0.5, bbox=CAR),
        row(category_name='truck', score=0.3, bbox=TRUCK),
        row(category_name='truck', score=0.3, bbox=[60, 20, 30, 40]),
    ]
    if soft:
        rows[:2] = [{**one, 'distribution': each} for one in rows[:2]]
    found, _ = fit(tmp_path, *rows, class_map=dict(car='a', truck='a'), **told)
    boxes, scores = found.of(INFOS[0])
    torch.testing.assert_close(scores, torch.tensor([[0.8, 0, 0], [0.3, 0, 0]]))
    assert boxes[:, 0].tolist() == [10, 60]


def test_of_a_live_teacher_as_well():
    def detect(images):
        boxes = [[0, 0, 8, 8], [0, 0, 8, 7.5], [20, 0, 28, 8]]
        return [boxes], [[[0.9, 0.1], [0.8, 0.2], [0.1, 0.6]]], [[0, 1, 1]]

    live = LiveDetections(2, FunctionDetector(detect, ['a', 'b']))
    live.take_classes(('b', 'a'))
    [(boxes, scores)] = live.detect(torch.zeros(1, 3, 40, 40), None)
    assert boxes[:, 0].tolist() == [0, 20]
    torch.testing.assert_close(scores, torch.tensor([[0.1, 0.9], [0.6, 0.1]]))
