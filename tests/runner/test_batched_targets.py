"""A run finds the targets of a whole batch at once, unless its config says otherwise."""

import time

import pytest
import torch
from mmengine.config import Config

from mmkd.runner.train import train
from tests.tiny import tiny_ssd, write_coco

CLASSES = ('ant', 'bee', 'cat')


@pytest.fixture(scope='module')
def data(tmp_path_factory) -> str:
    root = tmp_path_factory.mktemp('batched_targets')
    write_coco(root, 'train', 4, CLASSES)
    return f'{root}/'


def trained(data: str, work_dir, monkeypatch, **changes) -> tuple[dict, str]:
    """Weights and log of a detector that was trained for two iterations."""
    monkeypatch.setattr(Config, 'pretty_text', property(str))
    monkeypatch.setattr('mmengine.runner.runner.collect_env', dict)
    dataset = dict(
        type='CocoDataset',
        data_root=data,
        ann_file='annotations/train.json',
        data_prefix=dict(img='JPEGImages/'),
        metainfo=dict(classes=CLASSES),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True),
            dict(type='Resize', scale=(64, 64), keep_ratio=False),
            dict(type='PackDetInputs', meta_keys=('img_path', 'img_shape', 'ori_shape')),
        ],
    )
    config = dict(
        default_scope='mmdet',
        model=tiny_ssd(),
        train_dataloader=dict(
            batch_size=2,
            num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=True),
            dataset=dataset,
        ),
        train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=1),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)),
        randomness=dict(seed=0),
        work_dir=str(work_dir),
        experiment_name=f'batched_targets_{time.monotonic_ns()}',
    )
    train(Config({**config, **changes}))
    checkpoint = torch.load(work_dir / 'epoch_1.pth', weights_only=False)
    return checkpoint['state_dict'], next(work_dir.glob('*/*.log')).read_text()


def test_a_run_ends_with_the_same_weights_either_way(data, tmp_path, monkeypatch):
    ours, log = trained(data, tmp_path / 'at_once', monkeypatch)
    assert 'bbox_head (SSDHead) finds targets of the whole batch at once' in log
    own, log = trained(data, tmp_path / 'own', monkeypatch, batched_targets=False)
    assert 'finds targets' not in log
    assert all(torch.equal(value, ours[name]) for name, value in own.items())


def test_neither_true_nor_false_is_refused(data, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="batched_targets must be True or False, but got 'auto'"):
        trained(data, tmp_path, monkeypatch, batched_targets='auto')
