"""Comparisons of pairs with several teachers, and with one of other classes."""

from pathlib import Path

import pytest
import torch
from mmdet.registry import DATASETS, MODELS
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DefaultScope

pytest.importorskip('rich')
pytest.importorskip('matplotlib')

from mmkd.algorithms.build_detector import build_detector
from mmkd.compare import Comparison
from mmkd.compare.configs import text_of
from mmkd.compare.measure.evidence import read_samples
from mmkd.compare.outcome import runs_of
from mmkd.compare.plan import of_teacher, plan_of
from mmkd.runner.teacher_on_data import teacher_on_data
from mmkd_cli.main import main
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
    torch.manual_seed(len(classes))
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
    assert of_teacher(comparison) in told


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


@pytest.mark.parametrize('named', [True, False])
def test_a_teacher_of_other_classes_is_evaluated_by_the_students(here, named, monkeypatch):
    """As a detector of the student's classes with the same weights."""
    monkeypatch.setattr('sys.argv', ['mmkd'])
    network('other', ('moth', 'cat', 'dog', 'ant'), named)
    changes = dict(teacher='other.py', teacher_ckpt='other.pth', class_map=dict(moth='bee'))
    pair = pair_file(here, **changes)
    comparison = Comparison(pair, Path('job'), [0])
    comparison.check_data()
    assert [m.places for m in comparison.check_pair().class_maps.values()] == [(1, 2, None, 0)]
    steps = steps_of(comparison)
    command = steps['teacher-test'].command[4:]
    assert command == [
        'test', 'job/configs/pair.py', 'other.pth', '--teacher',
        '--work-dir', 'job/teacher/test', '--out', 'job/teacher/predictions.pkl',
    ]  # fmt: skip
    if named:
        return
    assert main(command) == 0
    found = read_samples(comparison.teacher.predictions)
    assert runs_of(comparison, [comparison.teacher])[0].parameters > 0
    own = {key: value for key, value in Config.fromfile(pair).items() if key != 'model'}
    plain = Config(dict(own, model=tiny_ssd(4, width=16, std=1.0)))
    model = build_detector(plain.model.to_dict()).eval()
    model.load_state_dict(torch.load('other.pth')['state_dict'])
    dataset = DATASETS.build(plain.test_dataloader.dataset)
    places, seen = torch.tensor([1, 2, -1, 0]), set()
    for index, sample in enumerate(found):
        [expected] = model.test_step(pseudo_collate([dataset[index]]))
        labels = places[expected.pred_instances.labels]
        assert torch.equal(sample['pred_instances']['labels'], labels[labels >= 0])
        seen |= set(labels.tolist())
    assert -1 in seen and len(seen) > 2


def test_which_teacher_is_evaluated(here):
    """One of several by its name, with the pair's class_map; no other."""
    first, second = network('own', CLASSES), network('other', ('moth', 'cat'), False)
    teachers = [first, dict(second, name='moths'), dict(model=str(here / 'teacher.json'))]
    pair = Config.fromfile(pair_file(here, teacher=teachers, class_map=dict(moth='ant')))
    config, classes = teacher_on_data(pair, 'moths')
    assert config.model.bbox_head.num_classes == 2
    assert classes(build_detector(config.model)).places == (0, 2)
    unnamed = Config(dict(pair.to_dict()))
    unnamed.model.teacher[1].model = config.model
    unnamed.model.pop('class_map')
    with pytest.raises(ValueError, match=r'scores 2 classes, the data has 3, .* not known'):
        teacher_on_data(unnamed, 'moths')[1](build_detector(config.model))
    for name, message in (
        ('', 'must name one of teacher1, moths, teacher3, but got none'),
        ('moth', 'but got moth'),
    ):
        with pytest.raises(ValueError, match=message):
            teacher_on_data(pair, name)
    of_file = teacher_on_data(pair, 'teacher3', 'tested.json')[0].model
    assert of_file.teacher == dict(results='tested.json') and of_file.common == dict(moth='ant')
    with pytest.raises(ValueError, match='the config is none'):
        teacher_on_data(config)


def test_a_teacher_of_none_of_the_students_classes_is_refused(here):
    network('other', ('x', 'y'))
    pair = pair_file(here, teacher='other.py', teacher_ckpt='other.pth')
    with pytest.raises(ValueError, match=r'one class in common, .* \(x, y\)'):
        Comparison(pair, Path('job'), [0])
    network('other', ('x', 'y', 'z'))  # as many: the same by other names, for all that is known
    command = steps_of(Comparison(pair, Path('job'), [0]))['teacher-test'].command
    assert 'job/configs/test_teacher.py' in command and '--teacher' not in command
