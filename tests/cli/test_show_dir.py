"""``mmkd test --show-dir`` draws the predictions of every shipped config, and of a user's."""

import sys
from copy import deepcopy
from pathlib import Path

import cv2
import pytest
import torch
from mmdet.engine.hooks import DetVisualizationHook
from mmdet.registry import MODELS
from mmdet.visualization import DetLocalVisualizer
from mmengine.config import Config, ConfigDict
from mmengine.registry import HOOKS, VISUALIZERS, DefaultScope

from mmkd.export.student_config import student_config
from mmkd.runner import evaluate
from mmkd_cli import test as command
from mmkd_cli.main import main
from tests.predict.conftest import CLASSES, PACK, PLAIN, pair_config
from tests.shipped import SHIPPED, shipped_student
from tests.tiny import tiny_ssd, tiny_yolov5, write_coco


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'excepthook', sys.excepthook)
    return tmp_path


@pytest.mark.parametrize('path', SHIPPED, ids=lambda path: path.stem)
def test_each_shipped_config_is_drawn(path, here, monkeypatch):
    """Hook and visualizer are mmdet's, in the scope of the config, and draw where it was told."""
    monkeypatch.setattr(command, 'config_of', lambda args: deepcopy(shipped_student(path)))
    ran = []
    monkeypatch.setattr(evaluate, 'evaluate', lambda cfg, *_: ran.append(cfg))
    main(['test', str(path), 'a.pth', '--show-dir', 'shown'])
    [config] = ran
    with DefaultScope.overwrite_default_scope(config.default_scope):
        visualizer = VISUALIZERS.build(
            {**config.visualizer, 'save_dir': str(here), 'name': path.stem}
        )
        hook = HOOKS.build(config.default_hooks.visualization)
    assert isinstance(visualizer, DetLocalVisualizer) and isinstance(hook, DetVisualizationHook)
    assert hook.draw and hook.test_out_dir == str(here / 'shown')


@pytest.mark.parametrize('family', ['ssd', 'yolov5'])
def test_predictions_are_drawn(here, family):
    write_coco(here, 'val', 3, CLASSES)
    config = {**pair_config(here), 'model': tiny_ssd()}
    if family == 'yolov5':
        pytest.importorskip('mmyolo')
        model = tiny_yolov5()
        model['test_cfg'] = dict(
            multi_label=True, nms_pre=50, score_thr=0.001, max_per_img=10,
            nms=dict(type='nms', iou_threshold=0.65),
        )  # fmt: skip
        config.update(default_scope='mmyolo', model=model)
        dataset = config['test_dataloader']['dataset']
        dataset['type'] = 'YOLOv5CocoDataset'
        dataset['pipeline'] = [
            dict(type='LoadImageFromFile'),
            dict(type='YOLOv5KeepRatioResize', scale=(64, 64)),
            dict(type='LetterResize', scale=(64, 64), allow_scale_up=False, pad_val=dict(img=114)),
            dict(PACK, type='mmdet.PackDetInputs', meta_keys=(*PACK['meta_keys'], 'pad_param')),
        ]
        config['test_evaluator']['type'] = 'mmdet.CocoMetric'
    for key in ('student', 'load', 'temperature'):
        config.pop(key)
    Path('c.py').write_text(''.join(f'{key} = {value!r}\n' for key, value in config.items()))
    with DefaultScope.overwrite_default_scope(config['default_scope']):
        torch.manual_seed(0)
        weights = MODELS.build(ConfigDict(config['model'])).state_dict()
    torch.save(dict(state_dict=weights, meta={}), 'a.pth')
    with PLAIN:
        main(['test', 'c.py', 'a.pth', '--work-dir', 'w', '--show-dir', 'shown'])
    assert sorted(path.name for path in Path('shown').iterdir()) == [
        f'val00{i}.jpg' for i in range(3)
    ]
    image = cv2.imread('shown/val001.jpg')
    assert image.shape == (120, 2 * 160, 3)  # the ground truth beside it


@pytest.mark.parametrize('kind', ['Visualizer', 'mmengine.Visualizer'])
def test_a_visualizer_that_draws_no_detections_is_replaced(kind):
    backends = [dict(type='TensorboardVisBackend')]
    own = dict(default_scope='mmdet', model=tiny_ssd())
    config = student_config(Config(dict(own, visualizer=dict(type=kind, vis_backends=backends))))
    assert config.visualizer == dict(type='mmdet.DetLocalVisualizer', vis_backends=backends)
    mine = dict(type='DetLocalVisualizer', name='mine')
    assert student_config(Config(dict(own, visualizer=mine))).visualizer == mine
