"""A checkpoint that mmdet's inferencer opens alone: its config is read, and never run."""

import inspect

import pytest
import torch
from mmdet.apis import DetInferencer
from mmdet.registry import MODELS
from mmengine.config import Config, ConfigDict
from mmengine.infer import BaseInferencer

from tests.tiny import tiny_ssd

pytestmark = pytest.mark.usefixtures('mmdet_scope')


def saved(tmp_path, text: str) -> str:
    weights = MODELS.build(ConfigDict(tiny_ssd())).state_dict()
    meta = dict(cfg=text, dataset_meta=dict(classes=('a', 'b', 'c')))
    torch.save(dict(state_dict=weights, meta=meta), tmp_path / 'a.pth')
    return str(tmp_path / 'a.pth')


def config(**changes) -> str:
    pipeline = [dict(type='LoadImageFromFile'), dict(type='mmdet.PackDetInputs')]
    values = dict(
        model=tiny_ssd(),
        default_scope='mmdet',
        test_dataloader=dict(dataset=dict(type='CocoDataset', pipeline=pipeline)),
        visualizer=dict(type='DetLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')]),
    )
    return Config({**values, **changes}).pretty_text


def test_a_sound_checkpoint_is_opened(tmp_path):
    inferencer = DetInferencer(weights=saved(tmp_path, config()), device='cpu')
    assert inferencer.model.bbox_head.num_classes == 3
    by_path = {**tiny_ssd(), 'type': 'mmdet.models.detectors.SingleStageDetector'}
    DetInferencer(weights=saved(tmp_path, config(model=by_path)), device='cpu')
    assert 'Config.fromstring' in inspect.getsource(BaseInferencer._init_model.__wrapped__)


def test_what_would_be_run_is_refused(tmp_path):
    ran = tmp_path / 'ran'
    attack = dict(type='os.mkdir', path=str(ran))
    for text in (
        config() + f'\nmodel = dict(type=__import__("os").mkdir({str(ran)!r}))\n',
        config(model=attack),
        config(model=dict(type='mmdet.os.mkdir', path=str(ran))),
        config(visualizer=attack),
        config(model={**tiny_ssd(), 'backbone': attack}),
        config(test_dataloader=dict(dataset=dict(pipeline=[attack]))),
        'x = 1',
    ):
        with pytest.raises(ValueError, match=r'opened alone must hold .* Give the config, too'):
            DetInferencer(weights=saved(tmp_path, text), device='cpu')
    assert not ran.exists()
