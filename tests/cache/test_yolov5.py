"""MMYOLO: mosaic, a batch as a dict, and a preprocessor that drops what it does not know."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmengine.registry import DefaultScope

pytest.importorskip('mmyolo')

from mmkd.cache import fill_cache
from mmkd.cache.views import CachedViews, build_collate, collate_with_records
from tests.tiny import ROOT

LOAD = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True)]
MOSAIC = [
    *LOAD,
    dict(type='Mosaic', img_scale=(64, 64), pad_val=114.0, pre_transform=LOAD),
    dict(type='YOLOv5RandomAffine', scaling_ratio_range=(0.5, 1.5), border=(-32, -32)),
    dict(type='YOLOv5HSVRandomAug'),
    dict(type='mmdet.PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape')),
]


@pytest.mark.parametrize(
    ('teacher_cache', 'codec'),
    [
        (None, 'obj_cells'),
        # What was the default once: training reads such a cache as it is.
        (dict(head='dense16'), 'dense16'),
    ],
)
def test_the_cached_run_is_the_live_run(root, tmp_path, teacher_cache, codec):
    cfg = Config.fromfile(ROOT / 'configs/yolov5_kd_s_to_n_digits.py')
    cfg.train_dataloader.dataset.update(
        data_root=f'{root}/', metainfo=dict(classes=('ant', 'bee', 'cat')), pipeline=MOSAIC
    )
    cfg.model.teacher = Config.fromfile(ROOT / 'configs/yolov5_n_digits.py').model
    cfg.model.distiller.connectors.adapter.out_channels = 128
    with DefaultScope.overwrite_default_scope('mmyolo'):
        torch.manual_seed(0)
        torch.save(MODELS.build(cfg.model.teacher).state_dict(), tmp_path / 'teacher.pth')
        cfg.model.teacher_ckpt = f'{tmp_path}/teacher.pth'
        folder = f'{tmp_path}/cache'
        cfg.model.teacher_cache = teacher_cache and dict(folder=folder, codecs=teacher_cache)
        fill_cache(cfg, folder, views=2, batch_size=2)
        kept = json.loads(Path(folder, 'cache.json').read_text())['fields']
        assert [f['codec'] for f in kept if f['recorder'] == 'head'] == [codec]
        data = CachedViews(cfg.train_dataloader.dataset, folder)
        np.random.seed(0)
        batch = collate_with_records([data[0], data[3]], build_collate(cfg.train_dataloader))
        logs = []
        for cache in (None, folder):
            torch.manual_seed(1)
            model = MODELS.build({**cfg.model, 'teacher_cache': cache}).train()
            optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.01))
            logs.append(model.train_step(copy.deepcopy(batch), optimizer))
    live, cached = logs
    assert live.keys() == cached.keys() and 'distill.loss_imitation' in live
    for name, value in live.items():
        torch.testing.assert_close(cached[name], value, rtol=5e-3, atol=1e-5, msg=name)
