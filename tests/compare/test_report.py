"""The report."""

import base64
import html
import json
import re

import numpy as np
import pytest
import torch
from mmengine.config import Config

pytest.importorskip('matplotlib')

from mmkd.compare.look_at import _flag
from mmkd.compare.report.curves import bands, draw_curves
from mmkd.compare.report.log_text import log_text
from mmkd.compare.report.results import mean_interval, results_of
from mmkd.compare.report.run import Run, read_run, step_seconds
from mmkd.compare.report.summary import sentences, summary
from mmkd.compare.report.tables import main_table, parts_table, seed_table
from mmkd.compare.report.write_report import Report, markdown, write_report
from mmkd.visualization.pictures import Picture, detected_boxes, draw_pictures, ground_truth_boxes


def run(arm, seed, value, **parts) -> Run:
    curves = {'loss': [(25, 2.0 + seed), (50, 1.0 + seed)]}
    curves['validation mAP by epoch'] = [(1, value / 2), (2, value)]
    if arm == 'kd':
        curves['distill.loss_soft'] = [(25, 0.5), (50, 0.25)]
    return Run(arm, seed, 200_000, value, value + 0.2, parts, 0.06, curves)


TEACHER = Run('teacher', 0, 3_000_000, 0.6, 0.8, {'cat': 0.7}, 0.15)
ONE = [TEACHER, run('baseline', 0, 0.4, cat=0.3), run('kd', 0, 0.45, cat=0.5)]
TWO = [*ONE, run('baseline', 1, 0.42, cat=0.5), run('kd', 1, 0.45, cat=0.5)]
EVEN = [run(arm, s, v + s / 50) for arm, v in (('baseline', 0.4), ('kd', 0.45)) for s in (0, 1)]
CONTROL = [*TWO, run('shuffled', 0, 0.39), run('shuffled', 1, 0.41)]


def gains(runs, arm='kd'):
    return results_of(runs).gains[arm].by_seed


def test_gain_is_paired_by_seed():
    assert gains(TWO) == pytest.approx({0: 0.05, 1: 0.03})
    assert gains([*ONE, run('kd', 7, 0.9)]) == pytest.approx({0: 0.05})
    assert gains(CONTROL, 'shuffled') == pytest.approx({0: -0.01, 1: -0.01})
    assert results_of(CONTROL).over['shuffled'].by_seed == pytest.approx({0: 0.06, 1: 0.04})


def test_arms_without_a_seed_in_common_have_no_gain():
    apart = results_of([run('baseline', 0, 0.4), run('kd', 1, 0.5)])
    assert not apart.gains and summary(apart).startswith('Nothing to compare')
    halves = [run('baseline', 0, 0.4), run('baseline', 1, 0.4)]
    control = results_of([*halves, run('kd', 0, 0.5), run('shuffled', 1, 0.4)])
    assert not control.over and 'on the right image' not in summary(control)


def test_interval_by_hand():
    # Two values: sd = 0.0141, t(0.975, 1) = 12.706, so 12.706 * 0.0141 / sqrt(2) = 0.127.
    mean, half = mean_interval([0.05, 0.03])
    assert (round(mean, 3), round(half, 3)) == (0.04, 0.127)
    assert np.isnan(mean_interval([0.05])[1])


def test_share_of_the_gap_by_hand():
    # Gain 0.05 of a gap of 0.6 - 0.41 = 0.19.
    shown = results_of([TEACHER, *EVEN])
    assert shown.gains['kd'].gap_closed == pytest.approx(0.05 / 0.19)
    assert shown.share_of_gap('kd') == shown.gains['kd'].gap_closed
    assert 'It closes 26 % of the 19.0 points to the teacher.' in summary(shown)
    worse = results_of([Run('teacher', 0, 1, 0.3, 0.5), *EVEN])
    assert worse.gains['kd'].gap_closed is None and worse.gap.mean < 0
    assert 'The teacher is not clearly above the baseline: -11.0 ± 12.7 points.' in summary(worse)
    without = results_of(EVEN)
    assert without.gains['kd'].gap_closed is None and without.gap is None
    assert 'teacher' not in summary(without)


def test_what_is_not_shown_closes_no_gap():
    """Neither in a sentence nor in a table: 496 % of it, once."""
    small = Run('teacher', 0, 1, 0.415, 0.5)
    for runs in (ONE, TWO, CONTROL, [small, *TWO[1:]], [small, *EVEN]):
        results = results_of(runs)
        assert results.share_of_gap('kd') is None
        assert 'closes' not in summary(results)
        assert 'gap closed' not in main_table(results)[0]


def test_table_of_one_seed():
    assert main_table(results_of(ONE)) == [
        ['', 'parameters', 'mAP', 'mAP50', 'gain', 'seconds per step'],
        ['Teacher', '3,000,000', '0.600', '0.800', '', '0.150'],
        ['Baseline', '200,000', '0.400', '0.600', '', '0.060'],
        ['Distilled', '200,000', '0.450', '0.650', '+0.050', '0.060'],
    ]


def test_tables_of_two_seeds():
    rows = main_table(results_of([TEACHER, *EVEN, *CONTROL[5:]]))
    assert rows[3][4:6] == ['+0.050 ± 0.000', '26 %']
    assert rows[1][2] == '0.600'  # one teacher
    assert rows[4][0] == 'Shuffled teacher' and rows[4][4] == '-0.010 ± 0.000'
    assert seed_table(results_of(CONTROL))[1:] == [
        ['0', '0.400', '0.450', '0.390', '+0.050', '-0.010'],
        ['1', '0.420', '0.450', '0.410', '+0.030', '-0.010'],
    ]


def test_parts_by_arm():
    header, cat = parts_table(results_of(TWO))
    assert header == ['mAP of', 'Teacher', 'Baseline', 'Distilled']
    assert cat == ['cat', '0.700', '0.400 ± 1.271', '0.500 ± 0.000']
    assert parts_table(results_of([run('baseline', 0, 0.4)])) == [['mAP of', 'Baseline']]


@pytest.mark.parametrize(
    'kd, words',
    [
        ([0.45], '+5.0 points with one seed, which cannot tell a gain from chance'),
        ([0.45, 0.47], '+5.0 ± 0.0 points over 2 seeds: a gain'),
        ([0.35, 0.37], '-5.0 ± 0.0 points over 2 seeds: a loss'),
        ([0.45, 0.40], '+1.5 ± 44.5 points over 2 seeds: no difference is shown'),
    ],
)
def test_the_summary_is_plain_whatever_the_result(kd, words):
    runs = [TEACHER]
    for seed, value in enumerate(kd):
        runs += [run('baseline', seed, 0.4 + 0.02 * seed), run('kd', seed, value)]
    assert words in summary(results_of(runs))


def test_the_summary_tells_what_the_control_did():
    text = summary(results_of(CONTROL))
    assert (
        "another image, changes the student's mAP by -1.0 ± 0.0 points over 2 seeds: a loss" in text
    )
    assert 'Taught on the right image the student is +5.0 ± 12.7 points' in text


def write_log(folder, steps, resumed=False):
    log = folder / 'vis_data/scalars.json'
    log.parent.mkdir(parents=True)
    log.write_text('\n'.join(map(json.dumps, steps)))
    log.with_name('config.py').write_text(f'work_dir = "x"\nresume = {resumed}\n')


def step(number, loss, time=0.1, **terms):
    return dict(epoch=1, step=number, loss=loss, time=time, lr=1.0, **terms)


@pytest.fixture
def metrics(tmp_path):
    def write(**values):
        for time in ('20260101_000000', '20260102_000000'):
            path = tmp_path / f'test/{time}/{time}.json'
            path.parent.mkdir(parents=True)
            path.write_text(json.dumps(values if '02_' in time else {'coco/bbox_mAP': 0.9}))

    return write


def test_a_run_is_read_from_its_last_folders(tmp_path, metrics):
    write_log(tmp_path / 'train/20260101_000000', [step(10, 9.0)])
    terms = {'student.loss_cls': 0.5, 'distill.bounded_active': 0.1}
    validation = {'coco/bbox_mAP': 0.2, 'step': 1}
    write_log(
        tmp_path / 'train/20260102_000000',
        [step(10, 2.0, 0.3, **terms), step(20, 1.0, 0.1, **terms), validation],
    )
    metrics(
        **{
            'coco/bbox_mAP': 0.5,
            'coco/bbox_mAP_50': 0.7,
            'coco/bbox_mAP_s': -1.0,
            'coco/bbox_mAP_l': 0.6,
            'coco/cat_precision': 0.4,
            'coco/dog_precision': float('nan'),
        }
    )
    found = read_run('kd', 3, 7, tmp_path / 'train', tmp_path / 'test')
    assert found == Run(
        'kd',
        3,
        7,
        0.5,
        0.7,
        {'large objects': 0.6, 'cat': 0.4},
        pytest.approx(0.2),
        {
            'loss': [(10, 2.0), (20, 1.0)],
            'loss_cls': [(10, 0.5), (20, 0.5)],
            'distill.bounded_active': [(10, 0.1), (20, 0.1)],
            'validation mAP by epoch': [(1, 0.2)],
        },
    )
    with pytest.raises(FileNotFoundError, match='has that step run'):
        read_run('kd', 3, 7, tmp_path / 'nothing', tmp_path / 'test')


def test_step_times_beside_other_work_are_not_given(tmp_path, metrics):
    write_log(tmp_path / 'train/20260101_000000', [step(10, 2.0, 0.3), step(20, 2.0, 0.1)])
    metrics(**{'coco/bbox_mAP': 0.5})
    folders = tmp_path / 'train', tmp_path / 'test'
    assert step_seconds(folders[0]) == read_run('kd', 0, 7, *folders).step_seconds == 0.2
    disturbed = read_run('kd', 0, 7, *folders, disturbed=True)
    assert disturbed.step_seconds is None and disturbed.curves
    assert 'seconds per step' not in main_table(results_of([disturbed]))[0]


def test_a_resumed_run_keeps_what_it_logged_before(tmp_path, metrics):
    write_log(tmp_path / 'train/20260101_000000', [step(10, 99.0)])
    first = [step(10, 3.0), dict(step=1, **{'pascal_voc/mAP': 0.1}), step(20, 99.0)]
    write_log(tmp_path / 'train/20260102_000000', first)
    second = [step(20, 2.0), dict(step=2, **{'pascal_voc/mAP': 0.2})]
    write_log(tmp_path / 'train/20260103_000000', second, resumed=True)
    metrics(**{'pascal_voc/mAP': 0.5, 'pascal_voc/AP50': 0.7})
    found = read_run('kd', 0, 7, tmp_path / 'train', tmp_path / 'test')
    assert (found.map, found.map50) == (0.5, 0.7)
    assert found.curves == {
        'loss': [(10, 3.0), (20, 2.0)],
        'validation mAP by epoch': [(1, 0.1), (2, 0.2)],
    }


def test_nothing_detected_is_zero_and_a_given_teacher_has_no_steps(tmp_path, metrics):
    metrics(data_time=0.1)
    found = read_run('teacher', 0, 7, None, tmp_path / 'test')
    assert (found.map, found.map50, found.step_seconds, found.curves) == (0, 0, None, {})
    assert 'seconds per step' not in main_table(results_of([found]))[0]


def test_curves_are_means_and_ranges_and_of_the_teacher_validation_alone():
    teacher = Run('teacher', 0, 1, 0.6, 0.8, curves=run('kd', 0, 0.6).curves)
    found = bands(results_of([teacher, *TWO[1:]]))
    assert list(found) == ['validation mAP by epoch', 'loss', 'distill.loss_soft']
    assert found['loss']['kd'] == [(25, 2.5, 2.0, 3.0), (50, 1.5, 1.0, 2.0)]
    assert 'teacher' not in found['loss'] and 'baseline' not in found['distill.loss_soft']
    assert found['validation mAP by epoch']['teacher'] == [(1, 0.3, 0.3, 0.3), (2, 0.6, 0.6, 0.6)]
    long = Run('kd', 0, 1, 0.6, 0.8, curves={'loss': [(x, 1.0) for x in range(999)]})
    assert 100 < len(bands(results_of([long]))['loss']['kd']) <= 200


def test_boxes_of_ground_truth_and_of_what_scores_enough():
    ground_truth = [
        dict(bbox=[4, 4, 24, 34], bbox_label=1, ignore_flag=0),
        dict(bbox=[0, 0, 9, 9], bbox_label=0, ignore_flag=1),
    ]
    assert ground_truth_boxes(ground_truth, ('ant', 'bee')) == [((4, 4, 24, 34), 'bee')]
    found = dict(
        bboxes=torch.tensor([[4.0, 4, 24, 34], [1, 1, 9, 9]]),
        scores=torch.tensor([0.9, 0.1]),
        labels=torch.tensor([1, 0]),
    )
    assert detected_boxes(found, ('ant', 'bee')) == [((4, 4, 24, 34), 'bee 0.90')]


def test_page_is_whole_in_itself(tmp_path):
    heat = {'Imitation mask': np.eye(8)}
    boxes = {'Ground truth': [((4.0, 4.0, 24.0, 34.0), 'bee')], 'Distilled': []}
    pixels = np.full((64, 64, 3), 90, np.uint8)
    draw_pictures(tmp_path / 'report.png', [Picture(pixels, boxes, heat), Picture(pixels, boxes)])
    assert draw_curves(tmp_path / 'curves.png', results_of(TWO))
    pictures = {'curves.png': 'Curves', 'report.png': 'Images'}
    report = Report('A <title>', 'Made by: a & b', pictures, dict(seeds=[0, 1], threads=1))
    page = write_report(tmp_path, report, results_of(TWO)).read_text()
    assert (
        'A &lt;title&gt;' in page
        and 'a &amp; b' in page
        and html.escape(sentences(results_of(TWO))[0]) in page
    )
    embedded = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    assert [base64.b64decode(data) for data in embedded] == [
        (tmp_path / name).read_bytes() for name in pictures
    ]
    assert not re.search(r'(?:src|href)="(?!data:)', page)
    text = (tmp_path / 'report.md').read_text()
    assert '| Distilled | 200,000 | 0.450 ' in text and '| seeds | 0, 1 |' in text
    content = json.loads((tmp_path / 'report.json').read_text())
    assert content['gains']['kd'] == dict(
        mean=0.04,
        interval95=0.1271,
        of_seeds=0.1271,
        of_images=None,
        by_seed={'0': 0.05, '1': 0.03},
        gap_closed=None,
    )
    assert len(content['runs']) == 5 and content['settings']['threads'] == 1
    curves = json.loads((tmp_path / 'curves.json').read_text())
    assert curves['by_name']['loss']['baseline'][0] == [25, 2.5, 2.0, 3.0]


def test_a_single_seed_has_no_interval_and_no_curves_no_picture(tmp_path):
    write_report(tmp_path, Report('T', 'N'), results_of(ONE))
    content = json.loads((tmp_path / 'report.json').read_text())
    assert content['gains']['kd']['interval95'] is None
    assert not draw_curves(tmp_path / 'curves.png', results_of([TEACHER]))
    assert not (tmp_path / 'curves.png').exists()


def test_the_log_has_each_run_in_order_with_its_last_step():
    sections = log_text(results_of(CONTROL[::-1])).split('== ')[1:]
    assert [section.splitlines()[0] for section in sections] == [
        f'{arm} seed {seed}'
        for arm, seed in [
            ('teacher', 0),
            *((a, s) for a in ('baseline', 'kd', 'shuffled') for s in (0, 1)),
        ]
    ]
    assert sections[3].strip().splitlines()[1:] == [
        'step 25  loss: 2.0000  distill.loss_soft: 0.5000',
        'step 50  loss: 1.0000  distill.loss_soft: 0.2500',
        'validation mAP by epoch  1: 0.2250  2: 0.4500',
        'test  mAP: 0.4500  mAP50: 0.6500  cat: 0.5000',
    ]
    long = run('kd', 0, 0.5)
    long.curves['loss'] = [(step, 1.0) for step in range(1000)]
    long.curves['distill.loss_soft'] = []
    lines = [line for line in log_text(results_of([long])).splitlines() if line.startswith('step')]
    assert len(lines) == 10 and lines[-1].startswith('step 999 ')


@pytest.mark.parametrize(
    ('pipeline', 'flag'),
    [
        ([dict(type='LoadImageFromFile', color_type='color_ignore_orientation')],
         'color_ignore_orientation'),
        ([dict(type='LoadImageFromFile')], 'color'),
        (None, 'color'),
    ],
)  # fmt: skip
def test_pictures_lie_as_their_boxes_were_drawn(pipeline, flag):
    assert _flag(Config(dict(pipeline=pipeline))) == flag


def test_names_are_no_formulas_and_end_no_cell(tmp_path):
    name = '$5_$ | 10'
    boxes = {'Ground truth': [((1.0, 1.0, 9.0, 9.0), name)]}
    draw_pictures(tmp_path / 'made.png', [Picture(np.zeros((12, 12, 3), np.uint8), boxes)])
    assert (tmp_path / 'made.png').is_file()
    assert markdown([['mAP of'], [name]]).splitlines()[2] == '| $5_$ \\| 10 |'
