"""The comparison of a pair's arms: what is planned, and a user's own data from end to end."""

import json
import re
import sys
from pathlib import Path
from shutil import copy

import pytest
import torch
from mmengine.config import Config

pytest.importorskip('rich')
pytest.importorskip('matplotlib')

from mmkd.algorithms.build_detector import build_detector
from mmkd.compare import Comparison
from mmkd.compare.configs import digest, text_of
from mmkd.compare.job import sole_user
from mmkd.compare.pace import measure_pace
from mmkd.compare.plan import plan_of
from mmkd.config.config_errors import ConfigError
from tests.detections.pairs import config as pair_of_file
from tests.detections.pairs import teacher_file
from tests.tiny import ROOT, write_coco, write_voc

DIGITS = ROOT / 'configs/ssd_kd_r18_to_r18w8_digits.py'
SHARED = ('train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler', 'randomness')


def steps_of(comparison: Comparison) -> dict:
    return {step.name: step for step in comparison.steps()}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_one_teacher_and_each_arm_with_each_seed(here):
    steps = steps_of(Comparison(DIGITS, Path('job'), [0, 1]))
    detectors = ['teacher']
    detectors += [f'{arm}_seed{seed}' for seed in (0, 1) for arm in ('baseline', 'kd', 'shuffled')]
    assert list(steps) == [f'{name}-{part}' for name in detectors for part in ('train', 'test')]
    weights = Path('job/teacher/epoch_5.pth')
    assert list(steps['teacher-train'].outputs) == [weights]
    waiting = {name for name, step in steps.items() if weights in step.inputs}
    assert waiting == {'teacher-test'} | {
        f'{arm}_seed{seed}-train' for seed in (0, 1) for arm in ('kd', 'shuffled')
    }
    assert 'randomness.seed=1' in steps['kd_seed1-train'].command
    assert steps['kd_seed1-test'].command[2:] == [
        '-m',
        'mmkd_cli',
        'test',
        'job/configs/test_student.py',
        'job/kd_seed1/student.pth',
        '--work-dir',
        'job/kd_seed1/test',
        '--out',
        'job/kd_seed1/predictions.pkl',
    ]
    kd, shuffled = (Config.fromfile(f'job/configs/{arm}.py') for arm in ('kd', 'shuffled'))
    assert kd.model.teacher_ckpt == shuffled.model.teacher_ckpt == str(weights)
    assert shuffled.model.pop('shuffle_teacher') is True and kd.model == shuffled.model
    assert Config.fromfile('job/configs/test_teacher.py').test_evaluator.classwise


def test_one_choice_of_the_teachers_form_for_all_arms_and_seeds(here, monkeypatch):
    monkeypatch.delenv('MMKD_LEAN_TEACHER')
    steps = steps_of(Comparison(DIGITS, Path('job'), [0, 1]))
    form = Path('job/lean_teacher.json')
    step = steps['lean-teacher']
    assert step.outputs == [form] and Path('job/teacher/epoch_5.pth') in step.inputs
    assert step.command[-4:] == ['mmkd.runner.choose_teacher', 'job/configs/kd.py', str(form), '0']
    waiting = {name for name, step in steps.items() if form in step.inputs}
    assert waiting == {f'{arm}_seed{s}-train' for s in (0, 1) for arm in ('kd', 'shuffled')}
    order = list(steps)  # a step waits for those before it only
    assert (
        order.index('teacher-train') < order.index('lean-teacher') < min(map(order.index, waiting))
    )
    for arm in ('kd', 'shuffled'):
        assert Config.fromfile(f'job/configs/{arm}.py').model.lean_teacher == str(form)
    options = {'model.lean_teacher': None}
    assert 'lean-teacher' not in steps_of(Comparison(DIGITS, Path('a'), [0], options=options))
    assert 'lean-teacher' not in steps_of(Comparison(DIGITS, Path('b'), [0], ['baseline']))


def test_all_students_share_the_schedule_and_the_baseline_is_its_own_config(here):
    comparison = Comparison(DIGITS, Path('job'), [0])
    comparison.write_configs()
    baseline, kd = (Config.fromfile(f'job/configs/{arm}.py') for arm in ('baseline', 'kd'))
    twin = Config.fromfile(ROOT / 'configs/ssd_r18w8_digits.py')
    twin.train_cfg.val_interval = 1  # five epochs: each is validated
    for key in SHARED:
        assert baseline[key] == kd[key] == twin[key]
    assert baseline.model.pop('_scope_', 'mmdet') == 'mmdet'
    assert baseline.model == twin.model


def test_how_targets_are_found_is_the_same_for_all_arms(here):
    def of_all(**options):
        comparison = Comparison(DIGITS, Path('job'), [0], options=options)
        return comparison, {config.get('batched_targets') for config in comparison.configs.values()}

    assert of_all()[1] == {None}
    assert of_all(batched_targets=False)[1] == {False}
    with pytest.raises(ValueError, match='batched_targets must be True or False'):
        of_all(batched_targets='no')[0].check_data()


@pytest.mark.parametrize(
    'name', ['ssd_kd_vgg_to_mbv2', 'yolov5_kd_s_to_n_bccd', 'yolov5_kd_m_to_s_voc']
)
def test_pairs_of_both_families_and_metrics(here, name):
    if name.startswith('yolov5'):
        pytest.importorskip('mmyolo')
    comparison = Comparison(ROOT / f'configs/{name}.py', Path('job'), [0])
    comparison.write_configs()
    for arm, config in comparison.configs.items():
        assert Config.fromfile(f'job/configs/{arm}.py').to_dict() == config.to_dict()
        if arm != 'teacher':  # an option of the run, so of all arms alike
            own = comparison.pair.default_hooks.get('channels_last')
            assert config.default_hooks.get('channels_last') == own
            assert bool(own) is not name.endswith('bccd')
    assert comparison.teacher.trained is (name == 'yolov5_kd_s_to_n_bccd')
    coco = 'Coco' in comparison.pair.test_evaluator.type
    assert coco is (name == 'yolov5_kd_s_to_n_bccd')
    assert comparison.tests['student'].test_evaluator.get('classwise', False) is coco
    for config in comparison.tests.values():
        assert build_detector(config.model).bbox_head.num_classes == (3 if coco else 20)


def test_the_code_that_trains_is_an_input_the_report_is_not(here):
    inputs = steps_of(Comparison(DIGITS, Path('job'), [0]))['kd_seed0-train'].inputs
    assert {
        ROOT / 'mmkd/algorithms/detection_distill.py',
        ROOT / 'mmkd/losses/weighted_soft_cls.py',
    } <= set(inputs)
    assert not [path for path in inputs if ROOT / 'mmkd/compare' in Path(path).parents]
    assert Path('data/digits/annotations/train.json') in inputs


def test_a_teacher_that_is_there_is_not_trained_unless_asked(here, monkeypatch):
    given = here / 'work_dirs/ssd_r18w32_digits/epoch_5.pth'
    given.parent.mkdir(parents=True)
    given.touch()
    other = here / 'other.pth'
    other.touch()
    url = 'https://example.invalid/teacher.pth'
    for arguments, weights in (
        (dict(), 'work_dirs/ssd_r18w32_digits/epoch_5.pth'),
        (dict(teacher_ckpt=str(other)), str(other)),
        (dict(teacher_ckpt=url), url),
        (dict(train_teacher=True), 'job/teacher/epoch_5.pth'),
    ):
        comparison = Comparison(DIGITS, Path('job'), [0], **arguments)
        steps = steps_of(comparison)
        assert ('teacher-train' in steps) is ('train_teacher' in arguments)
        assert comparison.configs['kd'].model.teacher_ckpt == weights
        assert (Path(weights) in steps['kd_seed0-train'].inputs) is (weights != url)
    monkeypatch.setenv('HOME', str(here))
    comparison = Comparison(DIGITS, Path('job'), [0], teacher_ckpt='~/other.pth')
    assert comparison.teacher.checkpoint == str(other)
    options = {'model.teacher_ckpt': '~/other.pth'}
    comparison = Comparison(DIGITS, Path('job'), [0], options=options)
    assert comparison.teacher.checkpoint == str(other) and not comparison.teacher.trained
    with pytest.raises(FileNotFoundError, match=r'no file "lost.pth".*leave it out'):
        Comparison(DIGITS, Path('job'), [0], teacher_ckpt='lost.pth')


def test_options_reach_all_but_the_models_not_the_teacher(here):
    options = {'train_cfg.max_epochs': 2, 'model.student_loss_weights': dict(loss_cls=0.5)}
    comparison = Comparison(DIGITS, Path('job'), [0], options=options, val_interval=7)
    for config in comparison.configs.values():
        assert (config.train_cfg.max_epochs, config.train_cfg.val_interval) == (2, 7)
    assert comparison.configs['kd'].model.student_loss_weights == dict(loss_cls=0.5)
    assert 'student_loss_weights' not in comparison.configs['teacher'].model
    assert comparison.teacher.checkpoint == 'job/teacher/epoch_2.pth'


def test_the_baseline_starts_from_the_weights_of_the_pairs_student(here):
    def baseline(**options):
        return Comparison(DIGITS, Path('job'), [0], options=options).configs['baseline']

    assert baseline(**{'model.student_ckpt': 'coco.pth'}).load_from == 'coco.pth'
    assert baseline(load_from='voc.pth').load_from == 'voc.pth'
    with pytest.raises(ValueError, match=r'yolov5n.pt.*mmkd convert'):
        baseline(**{'model.student_ckpt': 'yolov5n.pt'})


def test_another_recipe_leaves_the_baseline_as_it_is(here):
    reference = ROOT / 'configs/ssd_kd_r18_to_r18w8_digits_reference.py'
    own, other = (Comparison(pair, Path('job'), [0]).configs for pair in (DIGITS, reference))
    assert digest(own['baseline']) == digest(other['baseline'])
    assert digest(own['kd']) != digest(other['kd'])


def test_a_teacher_without_a_schedule_of_its_own_has_that_of_the_pair(here):
    model = Config.fromfile(ROOT / 'configs/ssd_r18w32_digits.py').model.to_dict()
    pair = Config.fromfile(DIGITS)
    pair.model.teacher = model
    Path('pair.py').write_text(text_of(pair))
    comparison = Comparison('pair.py', Path('job'), [0])
    training = comparison.configs['teacher']
    assert training.model.backbone.base_channels == 32
    assert training.optim_wrapper == comparison.configs['kd'].optim_wrapper


def test_what_cannot_be_compared_is_refused(here):
    with pytest.raises(ValueError, match=r'arms must be baseline.*but got kd'):
        Comparison(DIGITS, Path('job'), [0], arms=['kd'])
    with pytest.raises(ValueError, match=r'must be a pair.*ssd_r18w8_digits'):
        Comparison(ROOT / 'configs/ssd_r18w8_digits.py', Path('job'), [0])
    with pytest.raises(ValueError, match=r'CocoMetric or VOCMetric.*LVISMetric'):
        Comparison(DIGITS, Path('job'), [0], options={'test_evaluator.type': 'LVISMetric'})


def test_an_evaluator_of_another_split_is_refused_first(here):
    """Before the teacher is trained."""
    classes = Config.fromfile(DIGITS).train_dataloader.dataset.metainfo.classes
    for split in ('train', 'val', 'test'):
        write_coco(Path('data/digits'), split, 4, classes, seed=len(split))
    comparison = Comparison(DIGITS, Path('job'), [0])
    comparison.check_data()
    comparison = Comparison(
        DIGITS,
        Path('job'),
        [0],
        options={'test_evaluator.ann_file': 'data/digits/annotations/train.json'},
    )
    with pytest.raises(
        ValueError, match='test_evaluator: the ground truth of CocoMetric must be that of'
    ):
        comparison.check_data()
    options = {'model.architecture.bbox_head.num_classes': 7}
    with pytest.raises(
        ValueError, match='num_classes must be the number of classes of the data, 10'
    ):
        Comparison(DIGITS, Path('job'), [0], options=options).check_data()


def test_a_teacher_that_counts_iterations_beside_students_that_count_epochs(here):
    """An interval of the students' epochs would have it validated after each iteration."""
    teacher = Config.fromfile(ROOT / 'configs/ssd_r18w32_digits.py')
    teacher.train_cfg = dict(type='IterBasedTrainLoop', max_iters=500, val_interval=400)
    Path('teacher.py').write_text(text_of(teacher))
    comparison = Comparison(DIGITS, Path('job'), [0], options={'model.teacher': 'teacher.py'})
    assert comparison.configs['teacher'].train_cfg.val_interval == 50
    assert comparison.configs['kd'].train_cfg.val_interval == 1


@pytest.mark.parametrize('own', [dict(val_interval=400), {}])
def test_iterations_in_place_of_epochs(here, own):
    loop = dict(type='IterBasedTrainLoop', max_iters=500, **own)
    comparison = Comparison(
        DIGITS, Path('job'), [0], options=dict(train_cfg=dict(_delete_=True, **loop))
    )
    assert comparison.configs['kd'].train_cfg.val_interval == 50
    assert comparison.teacher.checkpoint == 'job/teacher/iter_500.pth'
    assert steps_of(comparison)['baseline_seed0-train'].outputs == [
        Path('job/baseline_seed0/iter_500.pth')
    ]


@pytest.mark.parametrize(
    ('options', 'name', 'exported'),
    [
        ({}, 'epoch_5.pth', False),
        ({'default_hooks.checkpoint.interval': 2}, 'epoch_5.pth', False),
        ({'default_hooks.checkpoint.by_epoch': False}, 'epoch_5.pth', True),
        ({'default_hooks.checkpoint.save_last': False}, 'epoch_5.pth', True),
        ({'default_hooks.checkpoint.filename_tmpl': 'at_{}.pth'}, 'epoch_5.pth', True),
        ({'default_hooks.checkpoint.out_dir': 'elsewhere'}, 'epoch_5.pth', True),
        ({'default_hooks.checkpoint': None}, 'epoch_5.pth', True),
        ({'default_hooks': None}, 'epoch_5.pth', False),
        (
            dict(custom_hooks=[dict(type='EarlyStoppingHook', monitor='coco/bbox_mAP')]),
            *('detector.pth', True),
        ),
    ],
)
def test_each_way_of_saving_leaves_the_last_weights(here, options, name, exported):
    comparison = Comparison(DIGITS, Path('job'), [0], options=options)
    steps = steps_of(comparison)
    for arm, folder in (('teacher', 'teacher'), ('baseline', 'baseline_seed0')):
        assert steps[f'{folder}-train'].outputs == [Path(f'job/{folder}/{name}')]
        assert Path(f'job/{folder}/{name}') in steps[f'{folder}-test'].inputs
        hooks = (Config.fromfile(f'job/configs/{arm}.py').get('default_hooks') or {}).values()
        writers = [hook for hook in hooks if hook and hook['type'] == 'ExportStudentHook']
        # The teacher's own config has hooks of its own.
        assert writers == ([dict(type='ExportStudentHook', filename=name)] if exported else [])
    assert steps['kd_seed0-train'].outputs == [Path('job/kd_seed0/student.pth')]
    assert Config.fromfile('job/configs/kd.py').model.teacher_ckpt == f'job/teacher/{name}'


@pytest.mark.parametrize('key', ['test_evaluator', 'test_dataloader', 'train_cfg'])
def test_what_a_comparison_needs_is_asked_for(here, key):
    with pytest.raises(ValueError, match=f'the config must have {key}, but .*digits.py" has none'):
        Comparison(DIGITS, Path('job'), [0], options={key: None})


def test_a_schedule_that_fails_late_is_refused_before_the_teacher_trains(here, monkeypatch):
    for check in ('check_data', 'check_fit'):
        monkeypatch.setattr(f'mmkd.compare.comparison.{check}', lambda *_: [])
    options = {'default_hooks.checkpoint.save_best': 'bbox_mAP'}
    with pytest.raises(ValueError, match=r'save_best must name a figure .*got "bbox_mAP"'):
        Comparison(DIGITS, Path('job'), [0], options=options).check_data()


def test_a_pair_that_cannot_be_built_is_refused_before_the_teacher_trains(here, monkeypatch):
    loss = 'model.distiller.distill_losses.loss_soft.temperatur'
    with pytest.raises(ConfigError, match=r'temperatur must be an argument of WeightedSoftCls'):
        Comparison(DIGITS, Path('job'), [0], options={loss: 2.0}).check_pair()
    sound = Comparison(DIGITS, Path('job'), [0])
    sound.check_pair()
    assert sound.configs['kd'].model.teacher_ckpt and not Path('job').exists()


def test_a_users_own_data_from_the_text_to_the_report(here, forked_steps, monkeypatch, capsys):
    """The commands and configs of docs/your_own_data.md, at a tiny size, each stopped early."""
    from mmkd_cli.main import build_parser, main

    monkeypatch.setattr(sys, 'argv', sys.argv)
    text = (ROOT / 'docs/your_own_data.md').read_text()
    names = ('my_student.py', 'my_teacher.py', 'my_pair.py')
    configs = re.findall(r'```python\n(.*?)```', text, re.S)
    for name, block in zip(names, configs, strict=True):
        Path(name).write_text(block)
    stop = dict(monitor='coco/bbox_mAP', rule='greater', stopping_threshold=-1.0)
    for name in names[:2]:
        with Path(name).open('a') as file:
            file.write(f'custom_hooks = [dict(type="EarlyStoppingHook", **{stop!r})]\n')
    by_hand = text.split('## 6. ')[1]
    commands = [c.split()[1:] for c in re.findall(r'```bash\n(mmkd .*)\n```', by_hand)]
    split, convert, compare = commands
    assert split[:2] == ['data', 'split']  # tests/cli/test_data.py runs it
    for seed, (split, images) in enumerate((('train', 4), ('val', 2))):
        write_voc(Path('data/mine'), split, images, ('ant', 'bee', 'cat'), seed)
    assert main(convert) == 0
    short = ['train_cfg.max_epochs=3', 'train_dataloader.batch_size=2']
    short += ['default_hooks.logger.type=LoggerHook', 'default_hooks.logger.interval=1']
    [held_out] = re.findall(r'`(test_dataloader\S+ test_evaluator\S+)`', text)
    copy('data/mine/annotations/val.json', 'data/mine/annotations/test.json')
    command = [*compare[:3], '0', '--cfg-options', *short, *held_out.split()]
    assert compare[2] == '--seeds'
    assert main(command) == 0, capsys.readouterr().out
    folder = Path('work_dirs/compare_my_pair')
    trained = Config.fromfile(folder / 'configs/kd.py')
    for phase in ('val', 'test'):
        for found in (trained[f'{phase}_dataloader'].dataset, trained[f'{phase}_evaluator']):
            assert found.ann_file.endswith(f'annotations/{phase}.json')
    content = json.loads((folder / 'report.json').read_text())
    assert [run['arm'] for run in content['runs']] == ['teacher', 'baseline', 'kd', 'shuffled']
    for arm in ('teacher', 'baseline_seed0', 'kd_seed0'):
        student = arm.startswith('kd')
        saved = torch.load(folder / arm / 'epoch_1.pth', weights_only=False)
        assert saved['stopped_early'], arm
        left = folder / arm / ('student.pth' if student else 'detector.pth')
        weights = torch.load(left, weights_only=False)['state_dict']
        prefix = 'architecture.' if student else ''
        assert all(torch.equal(saved['state_dict'][prefix + k], v) for k, v in weights.items())
    teacher, *students = content['runs']
    assert len({run['parameters'] for run in students}) == 1
    assert teacher['parameters'] > students[0]['parameters']
    # none where other work runs beside, as in the gate
    assert all(run['step_seconds'] is None or run['step_seconds'] > 0 for run in content['runs'])
    curves = json.loads((folder / 'curves.json').read_text())['by_name']
    assert set(curves['validation mAP by epoch']) == {'teacher', 'baseline', 'kd', 'shuffled'}
    assert set(curves['distill.loss_soft']) == {'kd', 'shuffled'}
    # The same images in the same order, from the same weights: the first step is the same ...
    first = {arm: points[0][1] for arm, points in curves['loss_cls'].items()}
    assert first['baseline'] == first['kd'] == first['shuffled']
    # ... but for what the teacher shows.
    assert curves['distill.loss_soft']['kd'][0] != curves['distill.loss_soft']['shuffled'][0]
    page = (folder / 'report.html').read_text()
    assert 'could not be' not in page
    assert page.count('data:image/png') == 4 and str(here) not in page
    told = (
        r'each detector has a precision of \d\.\d\d on .*\(Teacher \d.*, Baseline \d.*, Distilled'
    )
    finds = any(run['arm'] == 'baseline' and run['map'] > 0 for run in content['runs'])
    assert re.search(told if finds else 'boxes that score 0.3 or more', page)
    assert content['settings']['image_size'] == '256x192'
    assert content['settings']['learning_rate']['kd'].endswith('(AdamW)')
    assert (content['test_images'], len(content['errors'])) == (2, 4)
    assert content['gains']['kd']['of_images'] is not None
    kept = (folder / 'compare.log').read_text()
    assert kept.index('4 trainings and 4 evaluations to be run') < kept.index('1/8 Teacher')
    assert re.search(r'About \d+ s by a step timed just now \(one after the other: teacher', kept)
    # The teacher is judged as soon as there is a baseline.
    told = kept.index('The teacher is not clearly above the baseline')
    assert kept.index('Baseline: evaluation') < told < kept.index('Distilled: training')
    weights = 'work_dirs/compare_my_pair/teacher/detector.pth'
    assert f"teacher_ckpt='{weights}'" in ' '.join(kept.split()) and Path(weights).is_file()
    assert (folder / 'report.md').is_file()
    costs = json.loads((folder / 'costs.json').read_text())['detectors']
    assert [cost['role'] for cost in costs] == ['Teacher', 'Baseline', 'Distilled']
    large, *small = (cost['parameters'] for cost in costs)
    assert large > small[0] == small[1] and '<td>PyTorch, 1 thread</td>' in page
    assert page.index('>gain<') < page.index('>MACs<') < page.index('<details>')
    assert '== kd seed ' in (folder / 'report.log').read_text()
    # The same command has nothing left to do.
    options = build_parser().parse_args(command).cfg_options
    for step in Comparison('my_pair.py', folder, [0], options=options).steps():
        assert (folder / f'logs/{step.name}.done').read_text() == step.fingerprint()
    # Beside a comparison that still runs it starts nothing.
    capsys.readouterr()
    with sole_user(folder):
        assert main(command) == 1
    assert 'one job at a time' in ' '.join(capsys.readouterr().out.split())


def test_a_teacher_that_is_a_file_is_neither_trained_nor_evaluated(here):
    teacher_file(here)
    pair = pair_of_file(here, here / 'run')
    loader = dict(
        batch_size=4,
        dataset={
            **pair.train_dataloader.dataset.dataset,
            'test_mode': True,
            'pipeline': [dict(type='LoadImageFromFile'), dict(type='PackDetInputs')],
        },
    )
    truth = str(here / 'annotations/train.json')
    pair.merge_from_dict(
        dict(
            test_dataloader=loader,
            test_evaluator=dict(type='CocoMetric', ann_file=truth),
            test_cfg=dict(type='TestLoop'),
        )
    )
    (here / 'pair.py').write_text(text_of(pair))
    comparison = Comparison(here / 'pair.py', here / 'job', [0])
    built = comparison.check_pair()
    assert measure_pace(built, comparison.configs['kd'], 1).taught > 0
    steps = steps_of(comparison)
    names = [
        f'{arm}_seed0-{part}'
        for arm in ('baseline', 'kd', 'shuffled')
        for part in ('train', 'test')
    ]
    assert (
        list(steps) == names
        and comparison.teacher is None
        and list(comparison.tests) == ['student']
    )
    waiting = {name for name, step in steps.items() if here / 'teacher.json' in step.inputs}
    assert waiting == {'kd_seed0-train', 'shuffled_seed0-train'}
    told = plan_of(comparison, list(steps.values()), 0, 1, False)
    assert 'Teacher: known by its detections' in told
    kd = Config.fromfile(here / 'job/configs/kd.py')
    assert kd.model.teacher == str(here / 'teacher.json') and kd.model.teacher_ckpt is None
    with pytest.raises(ValueError, match='has no weights to be given or trained'):
        Comparison(here / 'pair.py', here / 'job', [0], train_teacher=True)
    (here / 'teacher.json').write_text(
        '[{"image_id": 99, "category_id": 1, "bbox": [1, 1, 9, 9], "score": 1}]'
    )
    with pytest.raises(ValueError, match='none is: it has 99'):
        comparison.check_pair()
