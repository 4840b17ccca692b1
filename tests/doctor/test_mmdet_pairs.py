"""Pairs of mmdet's own configs, with checkpoints made of them: nothing is to be found."""

import io
import json
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmdet.registry import MODELS as DETECTORS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.structures import InstanceData
from mmrazor.registry import MODELS

from mmkd.doctor import check_priors
from mmkd.doctor.check_accuracy import Figures, first_images, judge_parts, objects_of
from mmkd.doctor.check_layers import LAYER_COLUMNS, SharedNorms, check_layers
from mmkd.doctor.check_time import check_time
from mmkd.doctor.models import check_heads, check_preprocessing, check_weights
from mmkd.doctor.report import Report, Section, show
from mmkd.doctor.step import check_losses, check_statistics, take_step
from mmkd.heads.object_fit import object_fit
from mmkd.rules.warm_up import long_warm_ups
from tests.heads.models import small
from tests.tiny import raw_batch, tiny_pair, tiny_ssd, tiny_yolov5

pytestmark = pytest.mark.usefixtures('mmdet_scope')

CONFIGS = {
    'retinanet': 'retinanet/retinanet_r50_fpn_1x_coco',
    'fcos': 'fcos/fcos_r50-caffe_fpn_gn-head_1x_coco',
    'rtmdet': 'rtmdet/rtmdet_tiny_8xb32-300e_coco',
    'faster': 'faster_rcnn/faster-rcnn_r50_fpn_1x_coco',
    'ssd': 'ssd/ssd300_coco',
}


def own(name):
    return tiny_ssd() if name == 'ssd' else small(CONFIGS[name])


@pytest.mark.parametrize('mean', [[123.675, 116.28, 103.53], [103.53, 116.28, 123.675]])
@pytest.mark.parametrize('name', CONFIGS)
def test_weights_and_models_of_mmdets_pairs_are_well(name, mean, tmp_path):
    model = own(name)
    model['data_preprocessor'].update(mean=mean, std=[58.395, 57.12, 57.375])
    model['data_preprocessor'].pop('batch_augments', None)
    path = str(tmp_path / 'made.pth')
    meta = dict(cfg=Config(dict(model=dict(model), default_scope='mmdet')).pretty_text)
    torch.save(dict(state_dict=DETECTORS.build(model).state_dict(), meta=meta), path)
    record = dict(rows=dict(type='Predictions'))
    fed = dict(recorder='rows')
    pair = MODELS.build(
        dict(
            _scope_='mmrazor',
            type='DetectionDistill',
            architecture=dict(model, _scope_='mmdet'),
            teacher=dict(model, _scope_='mmdet'),
            teacher_ckpt=path,
            student_ckpt=path,
            distiller=dict(
                type='ConfigurableDistiller',
                student_recorders=record,
                teacher_recorders=record,
                distill_losses=dict(loss_rows=dict(type='PredictionRows')),
                loss_forward_mappings=dict(
                    loss_rows=dict(
                        preds_S=dict(fed, from_student=True), preds_T=dict(fed, from_student=False)
                    )
                ),
            ),
        )
    )
    report = Report(name)
    with report.section('Weights') as section:
        check_weights(section, pair, {}, ('a', 'b', 'c'))
    with report.section('Preprocessing') as section:
        check_preprocessing(section, pair)
    assert section.rows[0][1] == pytest.approx(mean, abs=1e-4), 'no digit is lost'
    with report.section('Models') as section:
        check_heads(section, pair)
    with report.section('Layers', *LAYER_COLUMNS) as section:
        check_layers(section, pair.student)
    assert report.ok, report.findings


class Images:
    """A data set of given boxes; each call to its one transform may take some away."""

    def __init__(self, boxes, size=(64, 64), keep=slice(None)):
        self.boxes, self.size = torch.as_tensor(boxes, dtype=torch.float32).view(-1, 4), size
        self.metainfo = dict(classes=('a', 'b', 'c'))
        self.pipeline = [Cut(keep)]

    def __len__(self):
        return 4

    def __getitem__(self, index):
        results = dict(gt_bboxes=self.boxes)
        for transform in self.pipeline:
            results = transform(results)
        boxes = results['gt_bboxes']
        sample = DetDataSample(
            gt_instances=InstanceData(bboxes=boxes, labels=torch.zeros(len(boxes)))
        )
        return dict(inputs=torch.zeros(3, *self.size), data_samples=sample)


class Cut:
    def __init__(self, keep):
        self.keep = keep

    def __call__(self, results):
        return dict(gt_bboxes=results['gt_bboxes'][self.keep])


def priors(model, dataset):
    section = Section('Priors against objects', check_priors.COLUMNS)
    check_priors.check_priors(section, DETECTORS.build(model), dataset, ('a', 'b', 'c'))
    return section


def test_objects_that_fit_have_no_finding_and_others_get_their_priors():
    good = priors(tiny_ssd(), Images([[16, 16, 32, 32], [0, 0, 32, 32]] * 10))
    assert good.rows[0] == ['all', 80, 1.0, 0.0] and not good.findings
    assert check_priors.line(good).startswith('Priors: 100% of 80 objects have one that fits.')
    [finding] = priors(tiny_ssd(), Images([[0, 20, 60, 28]] * 20)).findings
    assert finding.found.startswith('0% of the objects have a prior with an IoU of at least 0.5')
    assert "dict(type='SSDAnchorGenerator', strides=[8, 16, 32, 64]" in finding.change
    settings = eval(finding.change.partition(': ')[2].partition(') fits')[0] + ')')
    model = tiny_ssd()
    model['bbox_head']['anchor_generator'] = settings
    assert not priors(model, Images([[0, 20, 60, 28]] * 20)).findings


@pytest.mark.parametrize(
    ('name', 'box', 'fits'),
    [
        ('retinanet', [10, 10, 42, 42], True),
        ('retinanet', [10, 10, 14, 14], False),
        ('faster', [10, 10, 42, 42], True),
        ('faster', [10, 10, 13, 13], False),
        ('fcos', [10, 10, 42, 42], True),
        ('fcos', [13, 13, 15, 15], False),  # between the points
        ('rtmdet', [10, 10, 42, 42], True),
        ('rtmdet', [9, 9, 15, 15], False),  # between the corners
        ('yolov5', [10, 10, 42, 42], True),
        ('yolov5', [10, 10, 12, 60], False),  # 4 times as narrow as any prior
    ],
)
def test_each_head_by_its_own_rule(name, box, fits):
    if name == 'yolov5':
        pytest.importorskip('mmyolo')
        model = MODELS.build(dict(tiny_yolov5(), _scope_='mmyolo'))
    else:
        model = DETECTORS.build(own(name))
    found = object_fit(model, torch.tensor([box]), (64, 64))
    assert found.fits.tolist() == [fits]


def test_a_head_without_a_known_rule_is_left_out():
    assert object_fit(SimpleNamespace(), torch.zeros(1, 4), (8, 8)) == 'the model has no dense head'


def test_a_transform_that_takes_objects_away():
    section = priors(tiny_ssd(), Images([[16, 16, 32, 32]] * 20, keep=slice(10)))
    assert ['lost by Cut', 40, None, None] in section.rows
    assert section.findings[0].found == 'Cut takes away 50% of the 80 objects that come to it.'
    assert not priors(tiny_ssd(), Images([[16, 16, 32, 32]] * 40, keep=slice(39))).findings


def test_frozen_layers_that_no_file_filled():
    model = tiny_ssd()
    model['backbone']['frozen_stages'] = 1
    section = Section('Layers', LAYER_COLUMNS)
    check_layers(section, DETECTORS.build(model))
    assert 'frozen and were never loaded: backbone' in section.findings[0].found


def test_a_batchnorm_that_levels_share():
    model = small(CONFIGS['fcos'])
    model['bbox_head']['norm_cfg'] = dict(type='BN')
    for changed, count in ((model, 1), (small(CONFIGS['fcos']), 0)):
        norms, detector = SharedNorms(), DETECTORS.build(changed).train()
        with norms.watch('student', detector):
            detector(torch.zeros(2, 3, 64, 64), mode='tensor')
        section = Section('Layers')
        norms.tell(section)
        assert len(section.findings) == count
    assert not section.findings


@pytest.mark.parametrize(('end', 'found'), [(10, 0), (40, 1), (500, 1)])
def test_a_warm_up_of_a_third_of_the_run(end, found):
    scheduler = dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=end)
    falling = dict(type='LinearLR', start_factor=1.0, end_factor=0.1, by_epoch=True, end=10)
    cfg = Config(dict(train_cfg=dict(max_epochs=10), param_scheduler=[scheduler, falling]))
    assert len(long_warm_ups(cfg, 10)) == found


def test_a_warm_up_of_one_iteration_is_none():
    """As ``--epochs 1`` leaves of it where an epoch has few batches."""
    scheduler = dict(type='LinearLR', start_factor=0.05, by_epoch=False, end=1)
    cfg = Config(dict(train_cfg=dict(max_epochs=1), param_scheduler=[scheduler]))
    assert not long_warm_ups(cfg, 2)


@pytest.mark.parametrize(
    ('part', 'lower', 'objects', 'told'),
    [
        ('AP75', 0.06, {'': 900}, True),
        ('AP75', 0.06, {'': 100}, False),  # by chance in so few objects
        ('AP of ant', 0.2, {'ant': 36, '': 900}, True),
        ('AP of ant', 0.2, {'ant': 4, '': 900}, False),
        ('AP of ant', 0.06, {}, True),
        ('AP of ant', 0.04, {}, False),
    ],
)
def test_a_teacher_that_is_worse_than_its_student_in_a_part(part, lower, objects, told):
    teacher, student = Figures(0.6, {part: 0.5 - lower}), Figures(0.3, {part: 0.5})
    section = Section('')
    judge_parts(section, teacher, student, objects)
    assert [part in one.found for one in section.findings] == [True] * told


def test_objects_are_those_of_the_images_that_are_looked_at(tmp_path):
    for i in range(3):
        cv2.imwrite(str(tmp_path / f'{i}.png'), np.zeros((64, 64, 3), np.uint8))
    content = dict(
        images=[dict(id=i, file_name=f'{i}.png', width=64, height=64) for i in range(3)],
        annotations=[
            dict(id=n + 1, image_id=i, category_id=kind, bbox=[n, n, 20, 20], area=400, iscrowd=c)
            for n, (i, kind, c) in enumerate(
                [(0, 1, 0), (0, 2, 0), (0, 1, 1), (1, 1, 0), (2, 1, 0)]
            )
        ],
        categories=[dict(id=1, name='ant'), dict(id=2, name='bee')],
    )
    (tmp_path / 'all.json').write_text(json.dumps(content))
    dataset = dict(
        type='CocoDataset',
        data_root=f'{tmp_path}/',
        ann_file='all.json',
        data_prefix=dict(img=''),
        metainfo=dict(classes=('ant', 'bee')),
        test_mode=True,
        pipeline=[],
    )
    found = objects_of(first_images(dict(dataset=dataset, batch_size=1), 2))
    assert found == {'': 3, 'ant': 2, 'bee': 1}


def test_an_untrained_teacher_and_a_measuring_balance_are_no_findings():
    config = tiny_pair()
    config['distiller']['distill_losses']['loss_soft']['loss_weight'] = 1e9
    plain = MODELS.build(config)
    taken = take_step(plain, raw_batch())
    untrained, trained = Section('Losses'), Section('Losses')
    check_losses(untrained, plain, taken, teaches=False)
    check_losses(trained, plain, taken)
    assert not untrained.findings and 'times that of the student' in trained.findings[0].found

    pair = MODELS.build(tiny_pair(balance=dict(shares=0.5)))
    taken = take_step(pair, raw_batch())
    section = Section('Statistics', ('statistic', 'value', 'meaning'))
    check_statistics(section, pair, taken)
    assert not [row for row in section.rows if row[0] == 'distill.soft_share']
    measured = pair.balance.step
    section = Section('Time')
    check_time(section, pair, raw_batch(), steps=1)
    assert pair.balance.step == measured and pair.balance.training
    assert 'steps in which balance measures' in section.notes[0]


def test_a_narrow_terminal_cuts_nothing():
    from rich.console import Console

    report = Report('pair.py')
    with report.section('Models', 'part', 'student', 'teacher', 'equal') as section:
        section.rows.append(['priors', 'SSDAnchorGenerator', 'SSDAnchorGenerator', True])
    for width in (20, 40, 110):
        console = Console(width=width, record=True, file=io.StringIO())
        show(report, console)
        shown = console.export_text()
        assert shown.count('SSDAnchorGenerator') == 2 and '…' not in shown
