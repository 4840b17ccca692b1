"""The verdict in words: images and objects, what would show a difference, the teacher."""

import json
import re
from math import nan
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmkd.compare.arms import Arm
from mmkd.compare.measure.errors import KINDS, Judged
from mmkd.compare.measure.evidence import Evidence
from mmkd.compare.report.results import Gain, is_clear, mean_interval, results_of
from mmkd.compare.report.run import Run
from mmkd.compare.report.sample_size import Spread, what_would_show
from mmkd.compare.report.summary import sentences, summary
from mmkd.compare.report.tables import error_table, main_table
from mmkd.compare.report.teacher import teacher_words
from mmkd.compare.report.write_report import Report, write_report
from mmkd.compare.run_comparison import _thresholds


def runs(gains, teacher=0.6, **others):
    found = [Run('teacher', 0, 9, teacher, 0.8)]
    for seed, gain in enumerate(gains):
        found += [Run('baseline', seed, 5, 0.4, 0.6), Run('kd', seed, 5, 0.4 + gain, 0.6)]
        found += [Run(arm, seed, 5, 0.4 + value, 0.6) for arm, value in others.items()]
    return found


def evidence(found, images=50, objects=400, spread=0.01):
    """Resamples in which each run has its mAP, with noise of its own."""
    generator = np.random.default_rng(0)
    keys = [(run.arm, run.seed) for run in found]
    resampled = {
        key: run.map + generator.normal(0, spread, 400)
        for key, run in zip(keys, found, strict=True)
    }
    costs = {key: dict.fromkeys(KINDS, 0.1 + key[1] / 10) for key in keys}
    return Evidence(images, objects, resampled, costs=costs)


def judged(gains, spread=0.01, images=50, objects=400, **options):
    found = runs(gains, **options)
    return results_of(found, evidence(found, images, objects, spread))


def test_a_gain_over_seeds_may_be_none_over_images():
    certain, unsure = judged([0.05, 0.051, 0.049], 0.001), judged([0.05, 0.051, 0.049], 0.1)
    assert 'over 3 seeds on 50 test images with 400 objects: a gain.' in sentences(certain)[0]
    assert 'no difference is shown' in sentences(unsure)[0]
    gain = unsure.gains['kd']
    assert gain.half == pytest.approx((gain.seeds**2 + gain.images**2) ** 0.5)
    assert gain.seeds == pytest.approx(certain.gains['kd'].seeds)
    assert 'over seeds and test images' in summary(certain)


@pytest.mark.parametrize('objects, few', [(199, True), (200, False), (61, True)])
def test_with_few_objects_the_first_sentence_says_so(objects, few):
    first = sentences(judged([0.05, 0.06], images=40, objects=objects))[0]
    assert f'40 test images with {objects} objects' in first
    assert first.startswith('On few objects, ') is few


def test_one_seed_has_the_interval_of_the_images():
    first, following = sentences(judged([0.05]))[:2]
    assert 'with one seed on 50 test images with 400 objects' in first
    assert re.search(r'cannot tell a gain from chance \(± \d\.\d for the choice', first)
    assert '--seeds 0 1 2' in following


@given(
    gains=st.lists(st.floats(-0.2, 0.2), min_size=2, max_size=5),
    spread=st.floats(1e-4, 0.1),
    teacher=st.floats(0.2, 0.9),
)
def test_nothing_shown_closes_no_gap(gains, spread, teacher):
    """Whatever the figures are, in text, table and JSON."""
    results = judged(gains, spread, teacher=teacher)
    text, shown = summary(results), results.gains['kd'].is_shown
    assert ('no difference is shown' in text) is not shown
    if 'closes' in text:
        assert shown and results.gains['kd'].mean > 0 and is_clear(results.gap)
        assert 'not clearly above' not in text
    assert ('gap closed' in main_table(results)[0]) is ('closes' in text)
    assert ('To show a difference' in text or 'too small to be shown' in text) is not shown


def test_what_would_show_it_by_hand():
    """Lachin's formula: n = (t_0.975 + t_0.8)^2 sd^2 / d^2 with n - 1 degrees of freedom."""
    spread = Spread(3, 0.02)
    # n = 6: (2.571 + 0.920) * 0.02 / sqrt(6) = 0.0285; n = 5: (2.776 + 0.941) * 0.02 / sqrt(5)
    assert spread.detectable(6) == pytest.approx(0.0285, abs=1e-4)
    assert spread.detectable(5) == pytest.approx(0.0332, abs=1e-4)
    assert spread.seeds_for(0.03) == 6 and spread.seeds_for(0.0334) == 5
    assert spread.seeds_for(1e-4) is None and spread.images_for(0.03) is None
    both = Spread(3, 0.0, 100, 0.01)
    # no spread between seeds: the images' part falls with the root of their number
    assert both.detectable() == pytest.approx(0.01 * (1.984 + 0.845), abs=1e-4)
    assert both.detectable(images=400) == pytest.approx(both.detectable() / 2, rel=0.02)
    assert both.seeds_for(0.02) is None, 'no number of seeds makes up for too few images'
    assert 190 < both.images_for(0.02) < 215


def test_seeds_images_or_both_are_named():
    def told(gains, images_half, images=50):
        values = dict(enumerate(gains))
        mean, half = mean_interval(gains)
        return what_would_show(Gain(values, mean, half, images_half), images)

    assert re.search(r'about \d+ seeds in place of 3\.', told([0.0, 0.02, 0.04], nan, 0))
    by_images = told([0.02, 0.0201, 0.0199], 0.03)
    assert re.search(r'takes about \d+ test images in place of 50\.', by_images)
    both = told([0.0, 0.02, 0.04], 0.03)
    assert re.search(r'about \d+ seeds and \d+ test images\.', both)
    none = told([0.03, -0.03, 0.0001], 0.01)
    assert 'too small to be shown by 100 seeds; these 3 seeds and 50 test images show' in none


@pytest.mark.parametrize('seeds', [1, 3])
def test_without_a_detection_it_says_train_longer(seeds):
    found = [Run(arm, seed, 5, 0.0, 0.0) for seed in range(seeds) for arm in ('baseline', 'kd')]
    text = summary(results_of(found, evidence(found, spread=0.0)))
    assert 'No student detects an object yet (mAP 0): train longer' in text
    assert 'seeds in place of' not in text and '(--seeds' not in text


def test_what_would_show_it_is_said_of_a_control_alone():
    found = [run for run in runs([0.0, 0.0], longer=0.01) if run.arm != Arm.DISTILLED]
    first, following = sentences(results_of(found, evidence(found)))[:2]
    assert first.startswith('Training without a teacher') and 'no difference is shown' in first
    assert following.startswith('To show a difference of this size')


def test_no_difference_at_all_asks_for_no_seeds():
    text = summary(judged([0.0, 0.0, 0.0], spread=0.0))
    assert 'the same mAP with each seed' in text and 'in place of' not in text


def test_a_teacher_that_is_not_clearly_above_is_told_with_what_to_try():
    found = runs([0.02, 0.03], teacher=0.41)
    close = results_of(found, evidence(found, images=40, objects=60, spread=0.02))
    words = teacher_words(close.gap, close.evidence)
    assert words.startswith('The teacher is not clearly above the baseline: +1.0 ± ')
    assert 'points over 40 test images with 60 objects.' in words
    assert 'points over the test images.' in summary(close)
    places = [words.index(word) for word in ('weights', 'views', 'epochs', 'width', 'another head')]
    assert places == sorted(places)
    assert words.split(' over ', 1)[0] in summary(close)
    clear = judged([0.05, 0.05])
    assert teacher_words(clear.gap, clear.evidence).startswith('The teacher is above the baseline')
    # before there are seeds, images tell
    early = [run for run in found if run.arm != Arm.DISTILLED and run.seed == 0]
    gap = results_of(early, evidence(early, spread=0.1)).gap
    assert not is_clear(gap) and '± ' in teacher_words(gap)


def test_the_longer_baseline_is_a_control():
    results = judged([0.05, 0.051, 0.049], 0.001, longer=0.02)
    text = summary(results)
    assert 'Training without a teacher for as long as distillation takes changes' in text
    told = r'is \+3\.0 ± 0\.\d points from the one that was trained as long without a teacher'
    assert re.search(told, text)
    assert 'but for the longer one' in text
    assert results.over[Arm.LONGER].by_seed == pytest.approx({0: 0.03, 1: 0.031, 2: 0.029})


def test_kinds_of_errors_are_means_over_the_seeds():
    rows = error_table(judged([0.05, 0.06], shuffled=-0.1))
    assert rows[0] == [
        'points of AP50 lost by',
        'Teacher',
        'Baseline',
        'Distilled',
        'Shuffled teacher',
    ]
    assert [row[0] for row in rows[1:]] == list(KINDS)
    assert rows[1][1:] == ['10.0', '15.0', '15.0', '15.0']
    assert len(error_table(results_of(runs([0.05])))) == 1, 'nothing was looked at'


def test_the_report_has_pictures_first_and_statistics_folded(tmp_path):
    for name in ('report.png', 'curves.png', 'statistics.png'):
        (tmp_path / name).write_bytes(name.encode())
    report = Report(
        'T',
        'the notes',
        {'report.png': 'the images'},
        dict(image_size='192x160'),
        {'curves.png': 'the curves'},
        {'statistics.png': 'the statistics'},
        [['cost', 'Teacher', 'Baseline'], ['MACs', '9.00 G', '3.00 G']],
    )
    results = judged([0.05, 0.051, 0.049], 0.001, shuffled=-0.1)
    page = write_report(tmp_path, report, results).read_text()
    text = (tmp_path / 'report.md').read_text()
    order = ['a gain.', 'the images', 'gap closed', 'MACs', 'loose box', 'the curves', '<details>']
    order += ['the statistics', '192x160', 'the notes', '</details>']
    for written in (page, text):
        places = [written.index(word) for word in order]
        assert places == sorted(places)
        assert 'looks at another image of the batch' in written
        assert written.count('<details>') == 1
    content = json.loads((tmp_path / 'report.json').read_text())
    assert (content['test_images'], content['test_objects']) == (50, 400)
    assert content['gains']['kd']['of_images'] < content['gains']['kd']['interval95']
    assert content['errors'][0]['arm'] == 'teacher'
    assert content['costs'] == {'MACs': dict(Teacher='9.00 G', Baseline='3.00 G')}
    assert content['teacher_over_baseline']['mean'] == pytest.approx(0.2)
    assert content['distilled_over']['shuffled']['mean'] == pytest.approx(0.15)


@pytest.mark.parametrize(('kind', 'scores'), [('background', {}), ('', {Arm.BASELINE: 0.9})])
def test_a_baseline_that_finds_nothing_gives_no_threshold(kind, scores):
    one = Judged(
        *(np.array([0.9]), np.array([0]), np.array([kind], object)),
        *(np.array([-1 if kind else 0]), np.array([0]), np.array([not kind])),
        ignored=np.array([False]),
    )
    found = Evidence(1, 1, {}, {(Arm.BASELINE, 0): one})
    told, thresholds = _thresholds(SimpleNamespace(seeds=[0]), found)
    assert thresholds == scores and ('score 0.3' in told) is (not scores)
