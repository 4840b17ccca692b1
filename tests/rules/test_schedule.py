"""What would fail late in a run, or never happen, is said before it."""

import copy

import pytest
import torch
from mmdet.evaluation import CocoMetric, VOCMetric
from mmengine.config import Config

from mmkd.compare.configs import text_of
from mmkd.rules.metric_keys import metric_keys
from mmkd.rules.schedule import check_schedule
from tests.tiny import ROOT, tiny_pair, tiny_ssd, write_coco

LEAF = dict(type='CocoDataset', pipeline=[dict(type='PackDetInputs')])
MIXED = dict(type='MultiImageMixDataset', dataset=LEAF, pipeline=[dict(type='Mosaic')])
REPEATED = dict(type='RepeatDataset', times=2, dataset=LEAF)
REPEATED_MIX = dict(type='RepeatDataset', times=2, dataset=MIXED)
MIXED_REPEATED = dict(MIXED, dataset=REPEATED)
CONCATENATED = dict(type='ConcatDataset', datasets=[LEAF, LEAF])
SWITCH = dict(type='YOLOXModeSwitchHook', num_last_epochs=2)
MMYOLOS = dict(type='mmyolo.YOLOXModeSwitchHook', num_last_epochs=2, new_train_pipeline=[])
PIPELINE = dict(type='PipelineSwitchHook', switch_epoch=3, switch_pipeline=[])


def config(*hooks, dataset=LEAF, epochs=10, **changes) -> Config:
    cfg = dict(
        default_scope='mmdet',
        model=tiny_ssd(),
        custom_hooks=list(hooks),
        train_dataloader=dict(dataset=dataset),
        train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=epochs),
        val_cfg=dict(type='ValLoop'),
        val_evaluator=dict(type='CocoMetric'),
    )
    return Config(copy.deepcopy({**cfg, **changes}))


def by_iterations(*hooks, **changes) -> Config:
    return config(*hooks, train_cfg=dict(type='IterBasedTrainLoop', max_iters=500), **changes)


SOUND = [
    config(SWITCH, dataset=MIXED),
    config(SWITCH, dataset=MIXED_REPEATED),
    config(dict(SWITCH, num_last_epochs=-1)),  # never acts
    config(dict(type='mmdet.YOLOXModeSwitchHook'), dataset=MIXED),
    config(PIPELINE),
    config(dict(type='EMAHook', begin_epoch=3), dict(type='SetEpochInfoHook')),
    config(dict(type='EarlyStoppingHook', monitor='coco/bbox_mAP')),
    config(dict(type='EarlyStoppingHook', monitor='of_my_own'), val_evaluator=dict(type='Mine')),
    config(dict(type='CheckpointHook', save_best='auto')),
    config(dict(type='CheckpointHook', save_best=['coco/bbox_mAP', 'coco/bbox_mAP_50'])),
    config(
        dict(type='CheckpointHook', save_best='coco/ant_precision'),
        val_evaluator=dict(type='CocoMetric', classwise=True),
    ),
    config(param_scheduler=dict(type='ReduceOnPlateauLR', monitor='coco/bbox_mAP', rule='greater')),
    config(
        param_scheduler=dict(type='ReduceOnPlateauLR', monitor='pascal_voc/AP50'),
        val_evaluator=[dict(type='VOCMetric', iou_thrs=[0.5, 0.75])],
    ),
    config(val_cfg=None, val_evaluator=None, param_scheduler=[dict(type='ReduceOnPlateauLR')]),
    by_iterations(
        dict(type='CheckpointHook', by_epoch=False, interval=100),
        param_scheduler=dict(type='MultiStepLR', by_epoch=False, milestones=[9]),
        default_hooks=dict(checkpoint=None),
    ),
    config(train_cfg=dict(type='Mine')),
    config(custom_hooks=None, default_hooks=None, param_scheduler=None),
]
REFUSED = {
    'a mix inside RepeatDataset': (
        config(SWITCH, dataset=REPEATED_MIX),
        r'custom_hooks.0 \(YOLOXModeSwitchHook\) changes, in epoch 8.*got RepeatDataset.*outside',
    ),
    'no mix': (config(SWITCH), r'must be a MultiImageMixDataset, but got CocoDataset'),
    'the switch by the name of its scope': (
        config(dict(SWITCH, type='mmdet.YOLOXModeSwitchHook'), dataset=CONCATENATED),
        r'must be a MultiImageMixDataset, but got ConcatDataset',
    ),
    'a new pipeline for RepeatDataset': (
        config(PIPELINE, dataset=REPEATED),
        r'PipelineSwitchHook\) changes, in epoch 4, .*pipeline of its own, but got RepeatDataset',
    ),
    'a new pipeline for a mix': (
        config(PIPELINE, dataset=MIXED),
        r'pipeline of its own, but got MultiImageMixDataset',
    ),
    "MMYOLO's switch of RepeatDataset": (
        config(MMYOLOS, dataset=REPEATED),
        r'YOLOXModeSwitchHook\) changes, in epoch 8, .* but got RepeatDataset',
    ),
    "MMYOLO's switch to nothing": (
        config(dict(MMYOLOS, new_train_pipeline=None)),
        r'custom_hooks.0.new_train_pipeline must be the pipeline of the last 2 epochs',
    ),
    'a learning rate below 0': (
        config(dict(type='mmyolo.YOLOv5ParamSchedulerHook', max_epochs=5, lr_factor=0.01)),
        r'max_epochs must be the length of the training \(10\), but with 5 .*below 0 in epoch 7',
    ),
    'save_best misspelt': (
        config(default_hooks=dict(checkpoint=dict(type='CheckpointHook', save_best='bbox_mAP'))),
        r'default_hooks.checkpoint.save_best must name a figure of val_evaluator \(coco/bbox_mAP,.*'
        r'got "bbox_mAP". Is coco/bbox_mAP meant',
    ),
    'save_best of another metric': (
        config(
            dict(type='CheckpointHook', save_best=['pascal_voc/mAP', 'coco/bbox_mAP']),
            val_evaluator=dict(type='VOCMetric'),
        ),
        r'custom_hooks.0.save_best must name .*got "coco/bbox_mAP"',
    ),
    'a monitor that stops the run': (
        config(dict(type='EarlyStoppingHook', monitor='coco/mAP', strict=True)),
        r'custom_hooks.0.monitor must name .*got "coco/mAP"',
    ),
    'a plateau of no figure': (
        config(param_scheduler=[dict(type='LinearLR'), dict(type='ReduceOnPlateauLR')]),
        r'param_scheduler.1.monitor must name .*got "loss"',
    ),
    'a mean teacher': (
        config(dict(type='MeanTeacherHook'), model=tiny_pair()),
        r'custom_hooks.0 \(MeanTeacherHook\).*the teacher of a pair is frozen',
    ),
}
NOTED = {
    'a schedule': (
        config(param_scheduler=[dict(type='LinearLR', begin=12, end=20)]),
        'param_scheduler.0.begin is 12, but the last epoch is 9, counted from 0: LinearLR never',
    ),
    'of several optimizers': (
        config(param_scheduler=dict(a=[dict(type='LinearLR', begin=10, end=20)])),
        'param_scheduler.a.0.begin is 10',
    ),
    'a weight': (
        config(dict(type='DistillWeightHook', start_factor=1, end_factor=0, begin=11, end=12)),
        'custom_hooks.0.begin is 11',
    ),
    'a stop': (config(dict(type='mmrazor.StopDistillHook', stop_epoch=10)), 'stop_epoch is 10'),
    'a switch': (
        config(dict(PIPELINE, switch_epoch=10), dataset=REPEATED),
        'switch_epoch is 10',
    ),
    "MMYOLO's switch": (
        config(dict(MMYOLOS, num_last_epochs=10)),
        'num_last_epochs is 10 in a training of 10 epochs',
    ),
    'epochs among iterations': (
        by_iterations(param_scheduler=dict(type='MultiStepLR', milestones=[8, 11])),
        'param_scheduler.0 (MultiStepLR) counts epochs, but train_cfg counts iterations',
    ),
    'a late schedule of iterations': (
        by_iterations(param_scheduler=dict(type='LinearLR', by_epoch=False, begin=500, end=600)),
        'param_scheduler.0.begin is 500, but the last iteration is 499',
    ),
    'a switch among iterations': (
        by_iterations(SWITCH, dataset=MIXED),
        'custom_hooks.0 counts epochs, but train_cfg counts iterations: it acts at the start',
    ),
    'checkpoints among iterations': (
        by_iterations(default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1))),
        'the only checkpoint is written at the end',
    ),
    'no validation': (
        config(train_cfg=dict(max_epochs=3, val_begin=4)),
        'val_begin is 4, but the training ends after 3: it is never validated',
    ),
    'nothing is saved': (
        config(default_hooks=dict(checkpoint=dict(type='CheckpointHook', save_last=False))),
        'no hook saves a checkpoint',
    ),
    'nothing but the best of no validation': (
        config(
            train_cfg=dict(max_epochs=3, val_begin=4),
            default_hooks=dict(
                checkpoint=dict(
                    type='CheckpointHook', save_last=False, save_best='coco/bbox_mAP', interval=-1
                )
            ),
        ),
        'no hook saves a checkpoint',
    ),
    'an early stop of no figure': (
        config(dict(type='EarlyStoppingHook', monitor='bbox_mAP')),
        'custom_hooks.0 never stops the training: its monitor must name a figure',
    ),
}


def check(cfg: Config) -> list[str]:
    if 'mmyolo' in text_of(cfg):
        pytest.importorskip('mmyolo')
    return check_schedule(cfg)


@pytest.mark.parametrize('case', range(len(SOUND)))
def test_sound_schedules_pass(case):
    assert check(SOUND[case]) == []


@pytest.mark.parametrize('case', REFUSED)
def test_what_fails_late_is_refused(case):
    cfg, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        check(cfg)


@pytest.mark.parametrize('case', NOTED)
def test_what_never_happens_is_said(case):
    cfg, message = NOTED[case]
    assert any(message in note for note in check(cfg))


def test_the_projects_own_configs_pass():
    for name in ('ssd_kd_vgg_to_mbv2', 'ssd_kd_r18_to_r18w8_digits'):
        assert check_schedule(Config.fromfile(ROOT / f'configs/{name}.py')) == []


METRICS = [
    dict(type='CocoMetric'),
    dict(type='CocoMetric', metric=['bbox', 'proposal', 'proposal_fast'], prefix='my'),
    dict(type='CocoMetric', metric_items=['mAP', 'AR@100'], classwise=True),
    dict(type='VOCMetric', iou_thrs=[0.5, 0.75]),
    dict(type='VOCMetric', metric='recall', iou_thrs=[0.5, 0.75], proposal_nums=(10, 20)),
]


@pytest.mark.parametrize('case', range(len(METRICS)))
def test_the_figures_are_those_that_the_metric_gives_without_a_detection_too(case, tmp_path):
    """All of them are there, and 0 where there are objects; -1 says that there are none."""
    options = {key: value for key, value in METRICS[case].items() if key != 'type'}
    if 'Coco' in METRICS[case]['type']:
        options['ann_file'] = str(write_coco(tmp_path, 'val', 2, ('ant', 'bee', 'cat')))
        metric = CocoMetric(**options)
    else:
        metric = VOCMetric(**options)
    metric.dataset_meta = dict(classes=('ant', 'bee', 'cat'))
    none = dict(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long))
    ground_truth = dict(bboxes=torch.tensor([[5.0, 5, 60, 60]]), labels=torch.tensor([0]))
    sample = dict(
        ori_shape=(120, 160),
        gt_instances=ground_truth,
        ignored_instances=none,
        pred_instances=dict(none, scores=torch.zeros(0)),
    )
    metric.process({}, [dict(sample, img_id=i) for i in (1, 2)])
    found = metric.evaluate(2)
    classwise = {key for key in found if key.endswith('_precision')}
    assert len(classwise) == (3 if 'classwise' in options else 0)
    assert set(found) - classwise == metric_keys(config(val_evaluator=METRICS[case]))
    values = {key: value for key, value in found.items() if value == value}
    assert set(values.values()) <= {0.0, -1.0}
    assert all(values[key] == 0 for key in values if key.endswith(('mAP', 'AP50', '_50')))
