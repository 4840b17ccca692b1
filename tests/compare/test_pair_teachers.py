"""Comparisons of pairs with several teachers, and with one of other classes."""

from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import DefaultScope

pytest.importorskip('rich')
pytest.importorskip('matplotlib')

from mmkd.compare import Comparison
from mmkd.compare.configs import text_of
from mmkd.compare.plan import plan_of
from tests.cli.test_tools import DETECTOR
from tests.compare.test_compare import steps_of
from tests.detections.pairs import CLASSES, config, teacher_file
from tests.tiny import tiny_ssd


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    teacher_file(tmp_path)
    return tmp_path


def network(name: str, classes: tuple[str, ...], named: bool = True) -> dict:
    """A detector as a config file and its weights, which name its classes or not."""
    model = tiny_ssd(len(classes), width=16, std=1.0)
    Path(f'{name}.py').write_text(DETECTOR.format(model=model, classes=classes))
    with DefaultScope.overwrite_default_scope('mmdet'):
        state = MODELS.build(model).state_dict()
    meta = dict(dataset_meta=dict(classes=classes)) if named else {}
    torch.save(dict(state_dict=state, meta=meta), f'{name}.pth')
    return dict(model=f'{name}.py', ckpt=f'{name}.pth')


def pair_file(here, **changes) -> str:
    """A pair on the images of ``here``, which are its test images as well."""
    pair = config(here, here / 'run', 'prediction_rows')
    loader = dict(
        batch_size=4,
        dataset={
            **pair.train_dataloader.dataset.dataset,
            'test_mode': True,
            'pipeline': [
                dict(type='LoadImageFromFile'),
                dict(type='Resize', scale=(64, 64), keep_ratio=False),
                dict(
                    type='PackDetInputs',
                    meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
                ),
            ],
        },
    )
    pair.merge_from_dict(
        dict(
            test_dataloader=loader,
            test_evaluator=dict(
                type='CocoMetric', ann_file=str(here / 'annotations/train.json'), metric='bbox'
            ),
            test_cfg=dict(type='TestLoop'),
        )
    )
    pair.model.update(changes)
    (here / 'pair.py').write_text(text_of(pair))
    return 'pair.py'


def test_several_teachers_are_given_and_teach_all_arms(here):
    teachers = [network('own', CLASSES), network('other', ('dog', 'bee')), dict(model='own.json')]
    teachers[2]['model'] = str(here / 'teacher.json')
    comparison = Comparison(pair_file(here, teacher=teachers), Path('job'), [0])
    comparison.check_data()
    pair = comparison.check_pair()
    assert [m and m.untaught for m in pair.class_maps.values()] == [None, ['ant', 'cat'], None]
    steps = steps_of(comparison)
    parts = [f'{arm}_seed0' for arm in ('baseline', 'kd', 'shuffled')]
    assert list(steps) == [f'{name}-{part}' for name in parts for part in ('train', 'test')]
    files = {Path(f'{name}.pth') for name in ('own', 'other')} | {here / 'teacher.json'}
    for name, step in steps.items():
        assert (files <= set(step.inputs)) is (name in ('kd_seed0-train', 'shuffled_seed0-train'))
    assert Path('other.py') in steps['kd_seed0-train'].inputs  # which names its classes
    kd = Config.fromfile('job/configs/kd.py').model.teacher
    assert kd[0]['model']['bbox_head']['num_classes'] == 3 and kd[1]['model'] == 'other.py'
    told = plan_of(comparison, list(steps.values()), 0, 1, False)
    assert 'Teachers: 3, given; they are neither trained nor evaluated here' in told


@pytest.mark.parametrize(
    ('change', 'arguments', 'match'),
    [
        (dict(ckpt='none.pth'), {}, r"teacher\[1\] has ckpt='none.pth', which is not there"),
        (dict(ckpt=None), {}, r'teacher\[1\] has no ckpt\. Train it with "mmkd train"'),
        ({}, dict(train_teacher=True), 'each has its own weights, but got --train-teacher'),
        ({}, dict(teacher_ckpt='own.pth'), 'each has its own weights, but got own.pth'),
    ],
)
def test_what_several_teachers_lack_is_told_before_hours_pass(here, change, arguments, match):
    own = network('own', CLASSES)
    pair = pair_file(here, teacher=[own, dict(own, **change)])
    with pytest.raises((FileNotFoundError, ValueError), match=match):
        Comparison(pair, Path('job'), [0], **arguments)
