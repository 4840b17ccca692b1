"""A pair with data on the disk, and a teacher as sure of the background as trained ones are."""

import functools
import shutil

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import DefaultScope

from mmkd.cache import fill_cache
from tests.tiny import tiny_pair, tiny_ssd, write_coco

CLASSES = ('ant', 'bee', 'cat')
PIPELINE = (
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=(64, 64), keep_ratio=False),
    dict(type='PhotoMetricDistortion'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
)


def dataset(root, pipeline=PIPELINE, **changes) -> dict:
    return dict(
        type='CocoDataset',
        data_root=f'{root}/',
        ann_file='annotations/train.json',
        data_prefix=dict(img='JPEGImages/'),
        metainfo=dict(classes=CLASSES),
        pipeline=list(pipeline),
        **changes,
    )


@pytest.fixture(scope='session')
def root(tmp_path_factory):
    """Four images and ``teacher.pth``."""
    folder = tmp_path_factory.mktemp('cached')
    write_coco(folder, 'train', 4, CLASSES, seed=1)
    write_coco(folder, 'val', 2, CLASSES, seed=2)
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        teacher = MODELS.build(tiny_ssd(width=16, std=1.0))
        teacher.init_weights()
    for convs in teacher.bbox_head.cls_convs:
        bias = convs[-1].bias.data.view(-1, 4)
        bias[:, -1] += 6.0
    torch.save(teacher.state_dict(), folder / 'teacher.pth')
    return folder


def config_of(root, data: dict | None = None, **model) -> Config:
    loader = dict(
        batch_size=2,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=True),
        dataset=data or dataset(root),
    )
    pair = tiny_pair(teacher_ckpt=f'{root}/teacher.pth', **model)
    return Config(dict(default_scope='mmdet', model=pair, train_dataloader=loader))


@pytest.fixture
def config(root, mmdet_scope):
    """Makes the config of the pair, with changes to data set or model."""
    return functools.partial(config_of, root)


@pytest.fixture(scope='session')
def filled_once(root, tmp_path_factory):
    folder = tmp_path_factory.mktemp('filled') / 'cache'
    with DefaultScope.overwrite_default_scope('mmdet'):
        fill_cache(config_of(root), str(folder), views=3, batch_size=2)
    return folder


@pytest.fixture
def filled(filled_once, mmdet_scope, tmp_path):
    """Folder of a cache with 3 views of each of the 4 images."""
    return str(shutil.copytree(filled_once, tmp_path / 'cache'))
