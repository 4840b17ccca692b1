"""A YOLOv5 config runs from end to end: training, checkpoint, evaluation."""

import math

import pytest
from mmengine.config import Config
from mmengine.runner import Runner

from tests.test_configs import onto_tiny_data
from tests.tiny import ROOT


@pytest.fixture
def runner(yolo_models, tmp_path):
    pytest.importorskip('mmyolo.engine', reason='MMYOLO needs prettytable')
    config = Config.fromfile(ROOT / 'configs/yolov5_n_digits.py')
    onto_tiny_data(config, tmp_path / 'data')
    for phase in ('val', 'test'):
        config[f'{phase}_evaluator'].ann_file = f'{tmp_path}/data/annotations/{phase}.json'
    config.train_dataloader.batch_size = 2
    config.train_cfg.update(max_epochs=1, val_interval=1)
    config.work_dir = str(tmp_path / 'work')
    config.experiment_name = tmp_path.name
    config.visualizer = None
    config.default_hooks.pop('visualization')
    return Runner.from_cfg(config)


def test_training_and_evaluation(runner, tmp_path):
    runner.train()
    assert (tmp_path / 'work/epoch_1.pth').exists()
    assert math.isfinite(runner.test()['coco/bbox_mAP'])
