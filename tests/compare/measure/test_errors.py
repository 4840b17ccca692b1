"""Kinds of errors and what each costs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmkd.compare.measure.class_matches import mean_average_precision
from mmkd.compare.measure.errors import KINDS, error_costs, judge
from mmkd.compare.measure.metric_matches import MatchingMetric
from mmkd.compare.measure.thresholds import equal_thresholds
from tests.compare.measure.samples import draw, made

SQUARE, FAR = [0, 0, 10, 10], [50, 50, 60, 60]
#: The first covers half of the square (IoU 0.5), the second 40 % of it.
HALF, LOOSE, TOUCH = [0, 0, 10, 5], [0, 0, 10, 4], [0, 0, 10, 1]


def one_image(found, truth=(SQUARE,), labels=(0,), ignored=None):
    """Of detections (box, class, score)."""
    boxes, kinds, scores = zip(*found, strict=True) if found else ((), (), ())
    flags = None if ignored is None else np.array(ignored)
    return [made(0, np.array(truth).reshape(-1, 4), labels, boxes, scores, kinds, flags)]


@pytest.mark.parametrize(
    'found, kinds',
    [
        ([(SQUARE, 0, 0.9)], ['']),
        ([(HALF, 0, 0.9)], ['']),
        ([(SQUARE, 0, 0.9), (HALF, 0, 0.8)], ['', 'duplicate']),
        ([(LOOSE, 0, 0.9)], ['loose box']),
        ([(TOUCH, 0, 0.9)], ['loose box']),  # an IoU of just 0.1
        ([(TOUCH, 1, 0.9)], ['background']),
        ([([0, 0, 10, 0.9], 0, 0.9)], ['background']),
        ([(FAR, 0, 0.9)], ['background']),
        ([(SQUARE, 1, 0.9)], ['wrong class']),
        ([(LOOSE, 1, 0.9)], ['wrong class, loose box']),
        ([(FAR, 0, 0.9), (SQUARE, 0, 0.1)], ['background', '']),
    ],
)
def test_each_kind_by_hand(found, kinds):
    assert list(judge(one_image(found)).kind) == kinds


def test_a_box_that_fits_an_object_of_another_class_is_no_duplicate():
    found = [(SQUARE, 0, 0.9), (SQUARE, 0, 0.8)]
    assert list(judge(one_image(found, [SQUARE, HALF], (0, 1))).kind) == ['', 'wrong class']


def test_what_lies_in_an_ignored_region_counts_neither_way():
    found = [(SQUARE, 0, 0.9), (FAR, 0, 0.8)]
    samples = one_image(found, [SQUARE, [40, 40, 90, 90]], (0, 0), [0, 1])
    assert list(judge(samples).kind) == ['']
    assert error_costs(judge(samples)) == dict.fromkeys(KINDS, 0.0)


@pytest.mark.parametrize(
    'found, truth, labels, costs',
    [
        # one of two found, the other not seen at all: AP50 is 51/101 (recall up to 0.5)
        ([(SQUARE, 0, 0.9)], [SQUARE, FAR], (0, 0), {'missed': 50 / 101}),
        # a surer box of nothing halves precision
        ([(FAR, 0, 0.9), (SQUARE, 0, 0.8)], [SQUARE], (0,), {'background': 0.5}),
        # loose: the object is lost
        ([(LOOSE, 0, 0.9)], [SQUARE], (0,), {'loose box': 1.0}),
        # wrong class: made right, the class is found
        ([(SQUARE, 1, 0.9)], [SQUARE], (0,), {'wrong class': 1.0}),
        # of two loose boxes of one object the surer is made right, the other goes
        ([(LOOSE, 0, 0.9), (LOOSE, 0, 0.8)], [SQUARE], (0,), {'loose box': 1.0}),
        # both wrong: only taken away
        ([(LOOSE, 1, 0.9)], [SQUARE, FAR], (0, 1), {'missed': 0.0}),
        # a duplicate that is surer than another object's box
        (
            [(SQUARE, 0, 0.9), (SQUARE, 0, 0.8), (FAR, 0, 0.7)],
            [SQUARE, FAR],
            (0, 0),
            {'duplicate': 1 - (51 + 50 * 2 / 3) / 101},
        ),
    ],
)
def test_what_each_costs_by_hand(found, truth, labels, costs):
    told = error_costs(judge(one_image(found, truth, labels)))
    expected = {**dict.fromkeys(KINDS, 0.0), **costs}
    assert told == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    'seed, crowds, points',
    [
        (54, False, [8.7624, 10.1308, 6.3119, 0.0, 0.442, 3.0116]),
        (78, False, [5.5446, 6.7079, 32.3267, 1.2761, 0.0, 2.8713]),
        (4, True, [4.9505, 0.0, 29.6535, 1.7327, 0.0, 6.2624]),
        (26, True, [11.6667, 1.052, 20.6088, 0.2269, 2.4045, 5.0648]),
    ],
)
def test_the_figures_are_those_of_the_authors_code(seed, crowds, points):
    """Of tidecv 1.0.1 on the same detections; with crowds some lie in what is to be ignored."""
    judged = judge(draw(seed, 6, 2, crowds))
    assert judged.ignored.any() == crowds
    told = error_costs(judged)
    assert [100 * told[kind] for kind in KINDS] == pytest.approx(points, abs=1e-4)


def test_equal_scores_keep_their_places_when_others_are_mended():
    found = [(SQUARE, 0, 0.5), (FAR, 1, 0.5), (LOOSE, 0, 0.5)]
    told = error_costs(judge(one_image(found)))
    assert told == pytest.approx(dict.fromkeys(KINDS, 0.0))


@given(seed=st.integers(0, 10_000), crowds=st.booleans())
def test_mending_never_lowers_and_matches_are_cocos(seed, crowds):
    samples = draw(seed, 3, 2, crowds)
    judged = judge(samples)
    assert min(error_costs(judged).values()) >= -1e-12
    objects = sum(not item['ignore_flag'] for one in samples for item in one['instances'])
    assert len(judged.classes) == objects
    if crowds:
        return
    metric = MatchingMetric(dict(type='CocoMetric', iou_thrs=[0.5]), dict(classes=('a', 'b')))
    classes = metric.matches(samples)
    assert np.count_nonzero(judged.kind == '') == sum(one.matched.sum() for one in classes)
    mended = error_costs(judged)
    [own] = mean_average_precision(classes, np.ones((1, 3), int))
    assert all(own + gained <= 1 + 1e-9 for gained in mended.values())


def test_thresholds_of_equal_precision_by_hand():
    def judged(*found):
        return judge(one_image([(*one, 1 - i / 10) for i, one in enumerate(found)]))

    good = judge(one_image([(SQUARE, 0, 0.5), (FAR, 0, 0.4)]))
    unsure = judge(one_image([(SQUARE, 0, 0.05), (FAR, 0, 0.04)]))
    late = judged((FAR, 0), (SQUARE, 0))
    nothing = judge(one_image([]))
    precision, found, never = equal_thresholds(dict(a=good, b=unsure, c=late, d=nothing), 'a')
    assert precision == 1.0 and found['a'] == pytest.approx(0.5)
    assert found['b'] == pytest.approx(0.05)  # as good, less sure
    assert found['c'] == pytest.approx(0.9)  # never so precise: where it is most so
    assert found['d'] == 1.0 and never == ['c']
    assert equal_thresholds(dict(d=nothing), 'd') == (0.0, dict(d=1.0), [])
