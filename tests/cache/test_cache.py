"""A cache from filling to training: equal to the live teacher, resumable, never another's."""

import copy
import json
import shutil
from collections import namedtuple
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.dataset import pseudo_collate
from mmengine.model import ExponentialMovingAverage
from mmengine.optim import OptimWrapper
from mmrazor.registry import MODELS as LOSSES

from mmkd.cache import fill, fill_cache
from mmkd.cache.store import Store
from mmkd.cache.views import CachedViews, collate_with_records
from mmkd.losses import WeightedSoftCls
from tests.cache.conftest import CLASSES, PIPELINE, dataset
from tests.tiny import raw_batch, tiny_ssd, write_coco


def build(config):
    torch.manual_seed(0)
    model = MODELS.build(config.model).train()
    model.init_weights()
    return model


def batches(root, folder, number):
    data = CachedViews(dataset(root), folder)
    np.random.seed(0)
    order = [[0, 1], [2, 3], [1, 3]][:number]
    return [collate_with_records([data[i] for i in images], pseudo_collate) for images in order]


def train(model, data):
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.01))
    return [model.train_step(copy.deepcopy(batch), optimizer) for batch in data]


@pytest.mark.parametrize(
    ('codecs', 'tolerance'),
    [(dict(head='dense32'), 1e-5), (dict(head='dense16'), 2e-3), ({}, 1e-2)],
)
def test_the_cached_run_is_the_live_run_on_the_same_views(
    config, root, tmp_path, codecs, tolerance
):
    folder = f'{tmp_path}/cache'
    cache = dict(folder=folder, codecs=codecs)
    fill_cache(config(teacher_cache=cache), folder, views=2, batch_size=2)
    live, cached = build(config()), build(config(teacher_cache=cache))
    assert not list(cached.teacher.parameters())
    data = batches(root, folder, 3)
    logs = train(live, data), train(cached, data)
    for of_live, of_cached in zip(*logs, strict=True):
        assert of_live.keys() == of_cached.keys() and of_live['distill.loss_soft'] > 0.01
        for name, value in of_live.items():
            torch.testing.assert_close(of_cached[name], value, rtol=tolerance, atol=1e-6, msg=name)
    if codecs == dict(head='dense32'):
        for (name, own), other in zip(
            live.state_dict().items(), cached.state_dict().values(), strict=True
        ):
            torch.testing.assert_close(other, own, rtol=1e-4, atol=1e-6, msg=name)


def test_copies_and_evaluation_share_the_cached_teacher(config, root, filled):
    model = build(config(teacher_cache=filled))
    average = ExponentialMovingAverage(model).module
    assert average.teacher_source is model.teacher_source
    [batch] = batches(root, filled, 1)
    del batch['teacher_record']
    with torch.no_grad():
        assert len(average.eval().val_step(batch)) == 2  # the student's predictions


class ViewingSoftCls(WeightedSoftCls):
    """A loss of a user, which asks its maps for the usual layout."""

    def forward(self, preds_S, preds_T, targets):
        assert all(maps.view(-1).numel() for maps in [*preds_S, *preds_T])
        return super().forward(preds_S, preds_T, targets)


@pytest.mark.parametrize('codecs', [{}, dict(head='dense16'), dict(head='dense32')])
def test_losses_of_others_may_view_what_comes_from_a_cache(config, root, tmp_path, codecs):
    folder = f'{tmp_path}/cache'
    cfg = config(teacher_cache=dict(folder=folder, codecs=codecs))
    LOSSES.register_module(module=ViewingSoftCls, force=True)
    cfg.model.distiller.distill_losses.loss_soft.type = 'ViewingSoftCls'
    fill_cache(cfg, folder, views=1, batch_size=2)
    [log] = train(build(cfg), batches(root, folder, 1))
    assert log['distill.loss_soft'] > 0.01


def test_features_and_heads_are_kept_side_by_side(config, root, tmp_path):
    """A record without a declaration is kept as float16, whole."""
    cfg = config()
    tap = dict(type='ModuleOutputs', source='backbone')
    cfg.model.distiller.teacher_recorders.feature = tap
    cfg.model.distiller.student_recorders.feature = tap
    cfg.model.distiller.connectors = dict(
        adapter=dict(type='FeatureAdapter', in_channels=[16, 32, 64], out_channels=[32, 64, 128])
    )
    cfg.model.distiller.distill_losses.loss_pkd = dict(type='PKDLoss', resize_stu=False)
    cfg.model.distiller.loss_forward_mappings.loss_pkd = dict(
        preds_S=dict(recorder='feature', from_student=True, connector='adapter'),
        preds_T=dict(recorder='feature', from_student=False),
    )
    fill_cache(cfg, f'{tmp_path}/cache', views=1)
    fields = json.loads(Path(tmp_path, 'cache/cache.json').read_text())['fields']
    assert [(f['recorder'], f['data_idx'], f['codec']) for f in fields] == [
        ('feature', None, 'dense16'),
        ('head', 0, 'sparse_softmax'),
        ('head', 1, 'near_boxes'),
    ]
    live = build(cfg)
    cfg.model.teacher_cache = f'{tmp_path}/cache'
    cached = build(cfg)
    [batch] = batches(root, f'{tmp_path}/cache', 1)
    (of_live,), (of_cached,) = train(live, [batch]), train(cached, [batch])
    torch.testing.assert_close(
        of_cached['distill.loss_pkd'], of_live['distill.loss_pkd'], rtol=2e-3, atol=1e-6
    )


def test_filling_goes_on_where_it_was(config, filled, monkeypatch):
    path = Path(filled, 'views_00000.bin')
    whole = path.read_bytes()
    slot = len(whole) // 12
    path.write_bytes(whole[: 7 * slot + 50] + b'x' + whole[7 * slot + 51 : 11 * slot - 1])
    done = []
    write = Store.write
    monkeypatch.setattr(Store, 'write', lambda self, s, *a: (done.append(s), write(self, s, *a)))
    fill_cache(config(), filled, views=3, batch_size=2)
    assert done == [7, 10, 11]
    assert len(path.read_bytes()) == len(whole)


def test_an_unfinished_or_torn_cache_is_refused(config, root, filled):
    Path(filled, 'views_00000.bin').write_bytes(b'')
    with pytest.raises(ValueError, match=r'view . of image 0 is missing or torn.*Go on filling'):
        batches(root, filled, 1)
    index = Path(filled, 'cache.json')
    index.write_text(index.read_text().replace('"complete": true', '"complete": false'))
    with pytest.raises(ValueError, match=r'is not complete. Go on filling'):
        batches(root, filled, 1)


def softer(model):
    model.distiller.distill_losses.loss_soft.temperature = 2.0


STALE = {
    'teacher weights': lambda cfg, new: cfg.model.update(teacher_ckpt=new),
    'preprocessing': lambda cfg, new: cfg.model.update(architecture=tiny_ssd(std=50.0)),
    'recorders': lambda cfg, new: softer(cfg.model),
}


@pytest.mark.parametrize('part', STALE)
def test_a_cache_of_another_teacher_is_refused(config, root, filled, tmp_path, part):
    weights = torch.load(root / 'teacher.pth')
    weights['neck.extra_layers.0.0.conv.weight'] *= 1.001
    torch.save(weights, tmp_path / 'other.pth')
    cfg = config(teacher_cache=filled)
    build(cfg)
    STALE[part](cfg, f'{tmp_path}/other.pth')
    with pytest.raises(ValueError, match=f'differs in: {part}. Fill another'):
        build(cfg)
    cfg.model.pop('teacher_cache')
    with pytest.raises(ValueError, match=f'differs in: {part}. Fill another'):
        fill_cache(cfg, filled, views=3)


def test_a_cache_of_other_data_is_refused(root, filled, tmp_path, mmdet_scope):
    moved = shutil.copytree(root, tmp_path / 'moved')
    CachedViews(dataset(moved), filled)
    write_coco(moved, 'train', 5, CLASSES, seed=1)
    with pytest.raises(ValueError, match=r'differs in: images\.'):
        CachedViews(dataset(moved), filled)
    with pytest.raises(ValueError, match=r'differs in: pipeline\.'):
        CachedViews(dataset(root, pipeline=[*PIPELINE[:4], PIPELINE[5]]), filled)
    with pytest.raises(FileNotFoundError, match=r'Fill it: mmkd cache'):
        CachedViews(dataset(root), f'{tmp_path}/nothing')


def test_an_image_that_has_changed_is_found(root, filled, tmp_path, mmdet_scope):
    moved = shutil.copytree(root, tmp_path / 'moved')
    path = str(next(moved.glob('JPEGImages/train000*')))
    cv2.imwrite(path, 255 - cv2.imread(path))
    with pytest.raises(ValueError, match='image 0 has other pixels or boxes'):
        batches(moved, filled, 1)


def test_a_batch_without_records_says_who_brings_them(config, filled):
    model = build(config(teacher_cache=filled))
    with pytest.raises(ValueError, match=r'0 for 2 images.*draw_cached_views'):
        train(model, [raw_batch()])


def test_the_need_of_disk_is_checked_beforehand(config, tmp_path, monkeypatch):
    printed = []
    monkeypatch.setattr(fill, 'print_log', lambda text, *a: printed.append(text))
    fill_cache(config(), f'{tmp_path}/cache', views=2, dry_run=True)
    assert '8 views (2 of each image)' in printed[0] and not Path(tmp_path, 'cache').exists()
    usage = namedtuple('usage', 'free')
    monkeypatch.setattr(fill.shutil, 'disk_usage', lambda path: usage(100))
    with pytest.raises(OSError, match=r'must fit on the disk.*fewer --views'):
        fill_cache(config(), f'{tmp_path}/cache', views=2)


def test_a_cache_of_other_views_or_of_nothing_is_refused(config, filled, tmp_path):
    with pytest.raises(ValueError, match=r'differs in: views and seed\.'):
        fill_cache(config(), filled, views=2)
    with pytest.raises(ValueError, match='at least one view per image, but got 0'):
        fill_cache(config(), f'{tmp_path}/new', views=0)
    cfg = config()
    cfg.model.teacher_ckpt = None
    with pytest.raises(ValueError, match=r'set model\.teacher_ckpt'):
        fill_cache(cfg, f'{tmp_path}/new', views=1)
    with pytest.raises(ValueError, match=r"codecs\['head\.1'\] must be .*'near_boxes'.*'float8'"):
        fill_cache(
            config(teacher_cache=dict(folder='new', codecs={'head.1': 'float8'})), 'new', views=1
        )


def test_a_distiller_with_deliveries_is_refused(config, tmp_path):
    cfg = config()
    method = 'mmdet.models.dense_heads.ssd_head.SSDHead.forward'
    kind = dict(type='MethodOutputs', method_path=method, max_keep_data=1)
    cfg.model.distiller.distill_deliveries = dict(some=kind)
    with pytest.raises(ValueError, match='has deliveries'):
        fill_cache(cfg, f'{tmp_path}/cache', views=1)


def test_a_student_that_learns_to_compute_in_eight_bits_takes_the_same_cache(config, root, filled):
    model = build(config(teacher_cache=filled, quantize=dict(batches=1)))
    logs = train(model, batches(root, filled, 3))
    assert all(log['distill.loss_soft'] > 0.01 for log in logs)
    assert model.student.backbone.conv1.input_quantizer.ranges[2] > 0
