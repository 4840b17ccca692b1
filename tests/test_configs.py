"""Every config in the tree: loaded, built, and trained for one step on a tiny data set."""

import ast
import copy
import importlib.util
import json
import math
import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS
from mmengine.runner.checkpoint import CheckpointLoader

from mmkd.checkpoints.weight_meaning import differences
from mmkd.config.config_literals import ConfigLiterals, read_literals
from mmkd.config.pair_config import is_distillation
from mmkd.datasets.data_checks import _leaf_datasets
from mmkd.export.student_config import student_config
from mmkd.runner.exact_runner import ExactRunner
from tests.teachers.test_outside_detectors import model as onnx_model
from tests.tiny import ROOT, write_coco, write_voc

CONFIGS = sorted((ROOT / 'configs').glob('*.py'))
BASES = sorted((ROOT / 'configs/_base_').rglob('*.py'))
NAMES = [path.stem for path in CONFIGS]


def load(path: Path) -> Config:
    config = Config.fromfile(path)
    if config.get('default_scope') == 'mmyolo' and not importlib.util.find_spec('mmyolo'):
        pytest.skip('needs the extra [yolo]')
    return config


def test_all_are_found():
    """A config that no test loads is not in the tree."""
    assert len(CONFIGS) >= 6
    assert len(CONFIGS) + len(BASES) == len(list((ROOT / 'configs').rglob('*.py')))


@pytest.mark.parametrize('path', CONFIGS, ids=NAMES)
def test_opens_with_what_it_does_and_how_it_is_launched(path):
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ''
    assert f'configs/{path.name}' in docstring and 'xpected' in docstring


@pytest.mark.parametrize('path', [p for p in CONFIGS if '_kd_' in p.name], ids=lambda p: p.stem)
def test_a_pair_is_short_and_names_its_own_teacher(path):
    code = path.read_text()
    lines = code.splitlines()
    end = next(node.end_lineno for node in ast.parse(code).body)  # of the docstring
    assert len([line for line in lines[end:] if line.strip()]) <= 25
    named = r"teacher_ckpt=|ckpt=|teacher='[^']*\.(json|onnx)'"
    assert re.search(named, code), 'a teacher and its weights are never inherited'


def onto_tiny_data(config: Config, root: Path) -> None:
    """Point the data sets of ``config`` at generated ones of the same form and classes."""
    for phase in ('train', 'val', 'test'):
        for dataset in _leaf_datasets(config[f'{phase}_dataloader'].dataset):
            classes = (dataset.get('metainfo') or {}).get('classes')
            # MMYOLO's data sets have the classes of mmdet's, after which they are named.
            kind = DATASETS.get(f'mmdet.{dataset.type.removeprefix("YOLOv5")}')
            classes = classes or kind.METAINFO['classes']
            if 'Coco' in dataset.type:
                path = write_coco(root, phase, 2, classes)
                dataset.update(ann_file=f'annotations/{path.name}')
                dataset.update(data_prefix=dict(img='JPEGImages/'))
            else:
                folder = root / 'VOC2007'
                write_voc(folder, phase, 2, classes)
                dataset.update(ann_file=f'VOC2007/ImageSets/Main/{phase}.txt')
                dataset.update(data_prefix=dict(sub_data_root='VOC2007/'))
            dataset.data_root = f'{root}/'
        config[f'{phase}_dataloader'].update(num_workers=0, persistent_workers=False)
        config[f'{phase}_dataloader'].pop('prefetch_factor', None)
    if 'unlabelled' in config.model:
        images = f'{root}/annotations/train.json'
        config.model.unlabelled = dict(images=images, root=f'{root}/JPEGImages', share=0.5)


def with_given_teacher(config: Config, root: Path) -> None:
    """Put files that are there in the place of a teacher's."""
    teacher = config.model.teacher
    if isinstance(teacher, list):
        for entry in teacher:
            entry.ckpt = None
    elif str(teacher).endswith('.json'):
        truth = json.loads((root / 'annotations/train.json').read_text())['annotations']
        found = [
            dict(image_id=box['image_id'], category_id=box['category_id'], bbox=box['bbox'])
            for box in truth
        ]
        path = root / 'teacher.json'
        path.write_text(json.dumps([dict(one, score=0.9) for one in found]))
        config.model.teacher = str(path)
    elif str(teacher).endswith('.onnx'):
        classes = config.train_dataloader.dataset.metainfo.classes
        told = dict(classes=classes, size=(40, 50), boxes='boxes', scores='scores')
        scores = [[0.1] * (len(classes) - 1) + [0.8]]
        path = onnx_model(root / 'teacher.onnx', dict(boxes=[[5, 10, 20, 25]], scores=scores))
        config.model.teacher = dict(onnx=str(path), description=told)


def shrink(node) -> None:
    """Make images of 320 px and more about an eighth as large: a step need not take seconds."""
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in items:
        if isinstance(value, list | tuple) and len(value) == 2 and all(map(is_large, value)):
            node[key] = tuple(shrunk(size) for size in value)
        elif isinstance(value, dict | list):
            shrink(value)


def is_large(size) -> bool:
    return isinstance(size, int) and (size >= 320 or size <= -160)


def shrunk(size: int) -> int:
    """A side; or below 0, the border of half an image that MMYOLO's affine transform takes off."""
    return 32 * max(round(size / 240), 2) if size > 0 else -shrunk(-2 * size) // 2


def without_downloads(model: dict) -> None:
    """Take the addresses of weights out of a model config."""
    for key, value in model.items():
        if key == 'init_cfg' and isinstance(value, dict) and value.get('type') == 'Pretrained':
            model[key] = None
        elif isinstance(value, dict):
            without_downloads(value)


def check_own_checkpoint(model: torch.nn.Module, config: Config) -> None:
    """A checkpoint of this model with this config in it loads without a word."""
    plain = Config(config.to_dict(), format_python_code=False)
    text = plain.pretty_text
    assert read_literals(text) == ConfigLiterals(plain.to_dict())
    assert differences(model, dict(cfg=text)) == ((), ())


@pytest.mark.parametrize('path', CONFIGS, ids=NAMES)
def test_one_step(path, tmp_path, monkeypatch):
    def refuse(filename, *args, **kwargs):
        raise AssertionError(f'{filename} would be downloaded')

    config = load(path)
    monkeypatch.setattr(CheckpointLoader, 'load_checkpoint', refuse)
    onto_tiny_data(config, tmp_path / 'data')
    shrink(config.train_dataloader)
    config.train_dataloader.batch_size = 2
    config.work_dir = str(tmp_path)
    config.experiment_name = path.stem
    config.load_from = None
    config.visualizer = None
    config.param_scheduler = None
    config.custom_hooks = []
    config.default_hooks = dict(checkpoint=None, logger=None, param_scheduler=None)
    config.val_cfg = config.val_dataloader = config.val_evaluator = None
    config.test_cfg = config.test_dataloader = config.test_evaluator = None
    config.train_cfg = dict(type='IterBasedTrainLoop', max_iters=1)
    if is_distillation(config):
        with_given_teacher(config, tmp_path / 'data')
        config.model.teacher_ckpt = None
        config.model.student_ckpt = None
        without_downloads(config.model.architecture)
    else:
        without_downloads(config.model)
    torch.manual_seed(0)
    written = copy.deepcopy(config)
    runner = ExactRunner.from_cfg(config)
    check_own_checkpoint(getattr(runner.model, 'student', runner.model), written)
    before = {k: v.clone() for k, v in runner.model.state_dict().items()}
    seen = {}
    monkeypatch.setattr(
        runner.model, 'parse_losses', lambda x, f=runner.model.parse_losses: seen.update(x) or f(x)
    )
    runner.train()
    assert runner.iter == 1
    terms = {
        name: value if torch.is_tensor(value) else sum(v.sum() for v in value)
        for name, value in seen.items()
    }
    assert terms and all(math.isfinite(value.sum()) for value in terms.values()), terms
    if is_distillation(config):
        assert any(name.startswith('distill.loss') for name in terms)
        assert student_config(config).model.type == config.model.architecture.type
    trained = {k: v for k, v in runner.model.named_parameters() if v.requires_grad}
    changed = [k for k, v in trained.items() if not torch.equal(v, before[k])]
    assert len(changed) > len(trained) / 3
