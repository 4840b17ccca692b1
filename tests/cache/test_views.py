"""Views: the same wherever and whenever they are made, or refused."""

import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from mmkd.cache import fill_cache
from mmkd.cache.views import CachedViews, FixedViews, check_repeatable, fingerprint
from tests.cache.conftest import PIPELINE, dataset

MIXED = dict(
    type='MultiImageMixDataset',
    pipeline=[
        dict(type='Mosaic', img_scale=(64, 64)),
        dict(type='MixUp', img_scale=(64, 64)),
        dict(type='Resize', scale=(64, 64), keep_ratio=False),
        dict(type='PackDetInputs'),
    ],
)


def same(views, item, other):
    return fingerprint(views[item]) == fingerprint(other)


@pytest.mark.parametrize('kind', ['plain', 'mixed', 'concatenated'])
def test_a_view_follows_from_image_view_and_seed(root, mmdet_scope, kind):
    data = {
        'plain': dataset(root),
        'mixed': dict(MIXED, dataset=dataset(root, pipeline=PIPELINE[:2])),
        'concatenated': dict(type='ConcatDataset', datasets=[dataset(root, indices=2)] * 2),
    }[kind]
    views = FixedViews(data, views=3, seed=5)
    assert len(views) == 12
    first = views[4]
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    assert same(FixedViews(data, 3, 5), 4, first)
    [far] = DataLoader(views, sampler=[4], num_workers=1, collate_fn=lambda items: items[0])
    assert fingerprint(far) == fingerprint(first)
    assert not same(views, 3, first) and not same(FixedViews(data, 3, 6), 4, first)


def test_training_draws_each_view_and_no_other(root, filled, mmdet_scope):
    data = CachedViews(dataset(root), filled)
    assert len(data) == 4 and data.metainfo['classes'][0] == 'ant'
    np.random.seed(0)
    drawn = {fingerprint(data[2]) for _ in range(30)}
    fixed = FixedViews(dataset(root), 3, 0)
    assert drawn == {fingerprint(fixed[item]) for item in (6, 7, 8)}


REFUSED = {
    'CachedMosaic mixes images that it remembers': [dict(type='CachedMosaic')],
    'take use_cached=False': [dict(type='mmyolo.Mosaic', use_cached=True)],
}


def check(cfg, batch_augments=None):
    preprocessor = SimpleNamespace(batch_augments=batch_augments)
    check_repeatable(cfg, SimpleNamespace(data_preprocessor=preprocessor))


@pytest.mark.parametrize('reason', REFUSED)
def test_transforms_that_remember_are_refused(config, root, reason):
    check(config())
    with pytest.raises(ValueError, match=f'image id, view and seed alone, but .*{reason}'):
        check(config(data=dataset(root, REFUSED[reason])))


def test_changes_of_the_batch_or_during_the_run_are_refused(config):
    cfg = config()
    with pytest.raises(ValueError, match='batch_augments of the data_preprocessor change'):
        check(cfg, batch_augments=['some'])
    cfg.custom_hooks = [dict(type='mmdet.PipelineSwitchHook', switch_epoch=5)]
    with pytest.raises(ValueError, match='PipelineSwitchHook changes the pipeline during the run'):
        check(cfg)


class OwnRandomness:
    """A transform with a generator of its own, as some augmentation packages have."""

    generator = np.random.default_rng(0)

    def __call__(self, results):
        results['img'] = results['img'] + self.generator.integers(1, 9, dtype=np.uint8)
        return results


def test_a_transform_with_its_own_generator_is_found(config, root, tmp_path):
    pipeline = [*PIPELINE[:3], dict(type=OwnRandomness), PIPELINE[-1]]
    with pytest.raises(ValueError, match='drawing a view twice gave two images'):
        fill_cache(config(data=dataset(root, pipeline)), f'{tmp_path}/cache', views=1)


def test_images_of_several_sizes_are_refused(config, root, tmp_path):
    scales = [(64, 64), (96, 96), (128, 128)]
    resize = dict(type='RandomChoiceResize', scales=scales, keep_ratio=False)
    pipeline = [*PIPELINE[:2], resize, PIPELINE[-1]]
    with pytest.raises(ValueError, match='images of one size'):
        fill_cache(config(data=dataset(root, pipeline)), f'{tmp_path}/cache', 4, batch_size=1)
