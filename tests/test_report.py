"""The report."""

import base64
import json
import pickle
import re

import cv2
import numpy as np
import pytest
import torch

pytest.importorskip('matplotlib')

from mmkd.report import (
    Run,
    draw_picture,
    gains,
    mean_interval,
    read_run,
    seed_table,
    summary,
    table,
    write_report,
)

ONE = [
    Run('teacher', 0, 3_000_000, 0.6, 0.8, 0.15),
    Run('student', 0, 200_000, 0.4, 0.6, 0.06),
    Run('distilled', 0, 200_000, 0.45, 0.7, 0.1),
]
TWO = [
    *ONE,
    Run('student', 1, 200_000, 0.42, 0.6, 0.06),
    Run('distilled', 1, 200_000, 0.45, 0.7, 0.1),
]


def test_gain_is_paired_by_seed():
    assert gains(TWO) == pytest.approx({0: 0.05, 1: 0.03})
    assert gains([*ONE, Run('distilled', 7, 1, 0.9, 0.9, 0.1)]) == pytest.approx({0: 0.05})


def test_interval_by_hand():
    # Two values: sd = 0.0141, t(0.975, 1) = 12.706, so 12.706 * 0.0141 / sqrt(2) = 0.127.
    mean, half = mean_interval([0.05, 0.03])
    assert (round(mean, 3), round(half, 3)) == (0.04, 0.127)
    assert np.isnan(mean_interval([0.05])[1])


def test_table_of_one_seed():
    assert table(ONE)[1:] == [
        ['Teacher', '3,000,000', '0.600', '0.800', '', '0.150'],
        ['Student alone', '200,000', '0.400', '0.600', '', '0.060'],
        ['Student distilled', '200,000', '0.450', '0.700', '+0.050', '0.100'],
    ]
    assert '+5.0 points' in summary(ONE)


def test_tables_of_two_seeds():
    assert table(TWO)[3][4] == '+0.040 ± 0.127'
    assert table(TWO)[1][2] == '0.600'  # one teacher
    assert seed_table(TWO)[1:] == [
        ['0', '0.400', '0.450', '+0.050'],
        ['1', '0.420', '0.450', '+0.030'],
    ]
    assert 'Over 2 seeds' in summary(TWO)


def test_read_run_takes_the_latest(tmp_path):
    for time, value in (('20260101_000000', 0.1), ('20260102_000000', 0.5)):
        log = tmp_path / f'train/{time}/vis_data/scalars.json'
        log.parent.mkdir(parents=True)
        steps = [dict(loss=1.0, time=value * n) for n in (1, 2, 30)]
        log.write_text('\n'.join(json.dumps(record) for record in [*steps, dict(time=99)]))
        metrics = tmp_path / f'test/{time}/{time}.json'
        metrics.parent.mkdir(parents=True)
        metrics.write_text(json.dumps({'coco/bbox_mAP': value, 'coco/bbox_mAP_50': 2 * value}))
    run = read_run('student', 3, 7, tmp_path / 'train', tmp_path / 'test')
    assert run == Run('student', 3, 7, 0.5, 1.0, step_seconds=1.0)
    with pytest.raises(FileNotFoundError, match='has that step run'):
        read_run('student', 3, 7, tmp_path / 'nothing', tmp_path / 'test')


@pytest.fixture
def picture(tmp_path):
    cv2.imwrite(str(tmp_path / 'a.jpg'), np.full((64, 64, 3), 90, np.uint8))
    coco = dict(
        images=[dict(id=5, file_name='a.jpg')],
        annotations=[dict(image_id=5, category_id=2, bbox=[4, 4, 20, 30])],
        categories=[dict(id=1, name='one'), dict(id=2, name='two')],
    )
    (tmp_path / 'val.json').write_text(json.dumps(coco))
    found = dict(
        bboxes=torch.tensor([[4.0, 4, 24, 34], [1, 1, 9, 9]]),
        scores=torch.tensor([0.9, 0.1]),
        labels=torch.tensor([1, 0]),
    )
    with (tmp_path / 'predictions.pkl').open('wb') as file:
        pickle.dump([dict(img_id=5, pred_instances=found)], file)
    path = tmp_path / 'report.png'
    draw_picture(
        path, tmp_path / 'val.json', tmp_path, {'Student alone': tmp_path / 'predictions.pkl'}
    )
    return path


def test_page_is_whole_in_itself(tmp_path, picture):
    page = write_report(
        tmp_path, 'A <title>', TWO, picture, 'Caption', 'Made by: a & b'
    ).read_text()
    assert 'A &lt;title&gt;' in page
    assert 'a &amp; b' in page
    embedded = re.search(r'src="data:image/png;base64,([^"]+)"', page)[1]
    assert base64.b64decode(embedded) == picture.read_bytes()
    assert not re.search(r'(?:src|href)="(?!data:)', page)
    assert '| Student distilled | 200,000 | 0.450 ' in (tmp_path / 'report.md').read_text()
    content = json.loads((tmp_path / 'report.json').read_text())
    assert content['gain'] == dict(mean=0.04, interval95=0.1271)
    assert len(content['runs']) == 5


def test_a_single_seed_has_no_interval(tmp_path, picture):
    write_report(tmp_path, 'T', ONE, picture, 'C', 'N')
    assert json.loads((tmp_path / 'report.json').read_text())['gain']['interval95'] is None
