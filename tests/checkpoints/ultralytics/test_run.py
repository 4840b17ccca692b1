"""A YOLOv5 config runs from end to end: training, checkpoint, evaluation."""

import json
import math
import sys

import pytest
from mmengine.config import Config
from mmengine.runner import Runner

from tests.test_configs import onto_tiny_data
from tests.tiny import ROOT, write_coco


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


def test_a_comparison_of_a_pair(yolo_models, tmp_path, forked_steps, monkeypatch, capsys):
    """``mmkd compare``, whose steps run in MMYOLO's scope, from the data to the report."""
    pytest.importorskip('mmyolo.engine', reason='MMYOLO needs prettytable')
    pytest.importorskip('rich')
    pytest.importorskip('matplotlib')
    from mmkd_cli.main import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'argv', sys.argv)
    pair = ROOT / 'configs/yolov5_kd_s_to_n_digits.py'
    classes = Config.fromfile(pair).classes
    for seed, (split, images) in enumerate((('train', 4), ('val', 2))):
        write_coco(tmp_path / 'data/digits', split, images, classes, seed)
    short = ['train_cfg.max_epochs=1', 'train_dataloader.batch_size=2']
    short += ['default_hooks.logger.interval=1']
    command = ['compare', str(pair), '--arms', 'baseline', 'kd', '--cfg-options', *short]
    assert main(command) == 0, capsys.readouterr().out
    folder = tmp_path / 'work_dirs/compare_yolov5_kd_s_to_n_digits'
    content = json.loads((folder / 'report.json').read_text())
    assert [run['arm'] for run in content['runs']] == ['teacher', 'baseline', 'kd']
    curves = json.loads((folder / 'curves.json').read_text())
    assert 'distill.box_share' in curves['by_name']
    assert 'could not be drawn' not in (folder / 'report.html').read_text()
