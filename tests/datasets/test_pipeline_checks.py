"""A package that a pipeline needs and that is missing is told before a run."""

import pytest
from mmdet.datasets.transforms import transforms
from mmengine.config import Config
from mmengine.registry import TRANSFORMS

from mmkd.datasets.data_checks import check_data
from mmkd.datasets.pipeline_checks import check_installed
from tests.tiny import write_coco

ALBU = dict(type='Albu', transforms=[dict(type='Blur', p=0.1)])
LOAD = dict(type='LoadImageFromFile')


@pytest.fixture(autouse=True)
def without_albumentations(monkeypatch):
    monkeypatch.setattr(transforms, 'albumentations', None)


@TRANSFORMS.register_module(name='NeedsOfPipelines')
def needs(what='x'):
    if what == 'module':
        import mmkd.nothing_here  # noqa: F401
    raise RuntimeError(what)


@pytest.mark.parametrize(
    'dataset',
    [
        dict(pipeline=[LOAD, ALBU]),
        dict(type='RepeatDataset', dataset=dict(pipeline=[LOAD, ALBU])),
        dict(type='ConcatDataset', datasets=[dict(pipeline=[LOAD]), dict(pipeline=[ALBU])]),
        dict(type='MultiImageMixDataset', dataset=dict(pipeline=[LOAD]), pipeline=[ALBU]),
        dict(pipeline=[dict(type='RandomChoice', transforms=[[LOAD], [LOAD, ALBU]])]),
        dict(pipeline=[dict(ALBU, _scope_='mmdet')]),
        dict(pipeline=[dict(ALBU, type=transforms.Albu)]),
    ],
)
def test_wherever_the_transform_is(dataset):
    match = 'train_dataloader: what a pipeline needs .*albumentations is not installed. Install'
    with pytest.raises(ValueError, match=match):
        check_installed('train_dataloader', dataset, 'mmdet')


def test_a_module_that_is_not_there():
    broken = dict(type='NeedsOfPipelines', what='module')
    with pytest.raises(ValueError, match=r'NeedsOfPipelines came ModuleNotFoundError: .*nothing_'):
        check_installed('val_dataloader', dict(pipeline=[broken]), 'mmdet')


def test_other_faults_are_left_to_the_run():
    for odd in (dict(type='NeedsOfPipelines'), dict(type='Nobody'), dict(LOAD, a=1), len):
        check_installed('val_dataloader', dict(pipeline=[LOAD, odd]), None)
    for nothing in (None, {}, [], dict(pipeline=None)):
        check_installed('val_dataloader', nothing, 'mmdet')


def test_each_check_of_the_data_says_it(tmp_path):
    write_coco(tmp_path, 'train', 2, ('a',))
    dataset = dict(
        type='CocoDataset',
        data_root=f'{tmp_path}/',
        ann_file='annotations/train.json',
        data_prefix=dict(img='JPEGImages/'),
        metainfo=dict(classes=('a',)),
        pipeline=[LOAD],
    )
    config = Config(dict(default_scope='mmdet', train_dataloader=dict(dataset=dataset)))
    check_data(config, ['train'])
    config.custom_hooks = [dict(type='PipelineSwitchHook', switch_pipeline=[LOAD, ALBU])]
    with pytest.raises(ValueError, match=r'custom_hooks: what .*albumentations is not installed'):
        check_data(config, ['train'])
    config.custom_hooks = [dict(type='EMAHook'), dict(type='SyncNormHook')]
    config.train_dataloader.dataset.pipeline.append(ALBU)
    with pytest.raises(ValueError, match='albumentations is not installed'):
        check_data(config, ['train'])
