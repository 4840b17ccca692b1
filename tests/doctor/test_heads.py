"""Checks, tables and pictures of pairs of any heads that can be read."""

from importlib import import_module
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmrazor.registry import MODELS

from mmkd.doctor.check_accuracy import through_pipeline
from mmkd.doctor.check_pictures import check_pictures
from mmkd.doctor.models import check_heads
from mmkd.doctor.report import Section
from mmkd.doctor.step import check_losses, check_mappings, check_records, take_step
from mmkd.visualization.overlays import teacher_view
from tests.heads.models import small
from tests.tiny import fast_batch, raw_batch, tiny_ssd, tiny_yolov5

NAMES = {
    'retinanet': 'retinanet/retinanet_r50_fpn_1x_coco',
    'fcos': 'fcos/fcos_r50-caffe_fpn_gn-head_1x_coco',
    'rtmdet': 'rtmdet/rtmdet_tiny_8xb32-300e_coco',
    'faster': 'faster_rcnn/faster-rcnn_r50_fpn_1x_coco',
    'cascade': 'cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco',
    'detr': 'detr/detr_r50_8xb2-150e_coco',
    'solo': 'solo/solo_r50_fpn_1x_coco',
}


def detector(name):
    """By its name above; a config as it is."""
    if not isinstance(name, str):
        return name
    if name == 'ssd':
        return tiny_ssd()
    if name == 'yolov5':
        return dict(tiny_yolov5(), _scope_='mmyolo')
    model = small(NAMES[name])
    model.data_preprocessor.update(mean=[120.0, 110, 100], std=[58.0] * 3, batch_augments=None)
    return dict(model, _scope_='mmdet')


def rows_pair(student, teacher):
    torch.manual_seed(0)
    recorder = dict(rows=dict(type='Predictions'))
    pair = MODELS.build(
        dict(
            _scope_='mmrazor',
            type='DetectionDistill',
            architecture=detector(student),
            teacher=detector(teacher),
            distiller=dict(
                type='ConfigurableDistiller',
                student_recorders=recorder,
                teacher_recorders=recorder,
                distill_losses=dict(loss_rows=dict(type='PredictionRows')),
                loss_forward_mappings=dict(
                    loss_rows=dict(
                        preds_S=dict(from_student=True, recorder='rows'),
                        preds_T=dict(from_student=False, recorder='rows'),
                    )
                ),
            ),
        )
    )
    pair.student.init_weights()
    return pair


def table(section):
    return {row[0]: row[1:] for row in section.rows}


@pytest.mark.parametrize(
    ('student', 'teacher', 'expected'),
    [
        (
            'retinanet',
            'fcos',
            dict(
                head=['RetinaHead', 'FCOSHead', False],
                rows=['priors', 'priors', True],
                classes=[3, 3, True],
                scores=['sigmoid', 'sigmoid x centerness', False],
                strides=[[8, 16, 32, 64, 128]] * 2,
                coder=['DeltaXYWHBBoxCoder', 'DistancePointBBoxCoder', False],
            ),
        ),
        (
            'rtmdet',
            'faster',
            dict(
                head=['RTMDetSepBNHead', 'Shared2FCBBoxHead', False],
                rows=['priors', 'proposals', False],
                scores=['sigmoid', 'softmax', False],
                strides=[[8, 16, 32], None, False],
            ),
        ),
        ('faster', 'cascade', dict(rows=['proposals', 'proposals', True], classes=[3, 3, True])),
        ('fcos', 'detr', dict(rows=['priors', 'queries', False], scores=None)),
        ('detr', 'retinanet', dict(rows=['queries', 'priors', False])),
        ('yolov5', 'rtmdet', dict(scores=['sigmoid x objectness', 'sigmoid', False])),
    ],
)
def test_any_heads_are_examined_and_drawn(student, teacher, expected, tmp_path):
    if student == 'yolov5':
        pytest.importorskip('mmyolo')
    pair = rows_pair(student, teacher)
    section = Section('Models', ())
    check_heads(section, pair)
    found = table(section)
    for name, row in expected.items():
        if row is not None:
            assert found[name][: len(row)] == row

    batch = raw_batch()
    taken = take_step(pair, fast_batch(batch) if student == 'yolov5' else batch)
    assert taken.error is None
    records = Section('Records', ())
    check_records(records, taken)
    assert all('rows, 3 classes' in row[2] for row in records.rows) and not records.findings
    mappings = Section('Mappings', ())
    check_mappings(mappings, pair, taken)
    assert ['loss_rows', 'preds_T', 'teacher', 'rows', None] in [r[:5] for r in mappings.rows]
    losses = Section('Losses', ())
    check_losses(losses, pair, taken)
    assert not [f for f in losses.findings if 'not finite' in str(f)]

    seen = teacher_view(pair.eval(), taken.inputs, taken.data_samples)
    assert seen.shape == (2, 64, 64) and 0 < seen.max() <= 1 and seen.min() >= 0
    pictures = Section('Pictures', ())
    check_pictures(pictures, pair, taken, tmp_path, count=1)
    assert (tmp_path / 'train_0.png').exists()
    assert 'confidence of the teacher' in pictures.rows[0][1] and not pictures.notes

    with torch.no_grad():  # behind the pipeline that distils
        predicted = through_pipeline(pair)(raw_batch())
    assert len(predicted) == 2 and all('pred_instances' in sample for sample in predicted)


def test_a_teacher_that_is_not_read_is_left_out():
    pair = rows_pair('fcos', 'fcos')
    solo = MODELS.build(detector('solo'))
    pair.teacher_source.model = solo
    section = Section('Models', ())
    check_heads(section, pair)
    assert section.notes == ['Heads are left out: a model without one that finds boxes.']
    assert teacher_view(pair.eval(), torch.zeros(1, 3, 64, 64), None) is None


def test_the_examination_tells_strides_that_contradict_the_maps(monkeypatch):
    """Its data and files are left out: what they lack is told in sections of their own."""
    pair = rows_pair('fcos', 'fcos')
    pair.student.bbox_head.prior_generator.strides = [(s, s) for s in (4, 8, 16, 32, 64)]
    module = import_module('mmkd.doctor.examine')
    runner, dataset = SimpleNamespace(cfg=Config()), SimpleNamespace(metainfo={})
    monkeypatch.setattr(module, 'check_data', lambda *_: [])
    monkeypatch.setattr(module, 'build_without', lambda *_: (runner, pair, None))
    monkeypatch.setattr(module, 'training_batch', lambda *_: (raw_batch(size=128), dataset, 1))
    report = module.examine(Config(), images=0)
    [layers] = [section for section in report.sections if section.title == 'Layers']
    assert [finding.found.split(':')[0] for finding in layers.findings] == [
        'bbox_head of the student states strides of 4, 8, 16, 32, 64, but its maps have 8, 16, 32, '
        '64, 128'
    ]
