"""Mutated configs: each trains, or fails with an error of mmkd that names the key."""

import copy
import random
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.config import Config
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import MODELS, DefaultScope
from mmengine.visualization import Visualizer

from mmkd.config.config_errors import ConfigError, config_errors, message_last
from mmkd.config.key_finder import entries, value_at
from mmkd.datasets.data_checks import check_data
from mmkd.runner.train import train
from mmkd_onnx.image_file import read_image
from tests.test_configs import onto_tiny_data
from tests.tiny import ROOT, method, tiny_pair, write_coco

CLASSES = ('a', 'b', 'c')
WRONG = (None, 'nonsense', -1, 0, 2.5, True, [], {}, [1, 'x'], {'x': 1})
PARTS = ('model', 'train_dataloader', 'optim_wrapper', 'param_scheduler', 'train_cfg', 'hooks')


def ssd_pair() -> dict:
    """Tiny SSDs with soft targets, bounded boxes and imitated features."""
    imitation = method('ssd_imitation').distiller.to_dict()
    pair = tiny_pair()
    imitation['connectors']['adapter'].update(in_channels=[16, 32, 64], out_channels=[32, 64, 128])
    imitation['connectors']['mask'].update(
        prior_generator=copy.deepcopy(pair['architecture']['bbox_head']['anchor_generator']),
        levels=[0, 1, 2],
    )
    for key, value in imitation.items():
        if isinstance(value, dict):
            pair['distiller'].setdefault(key, {}).update(value)
    return pair


def forget_runs() -> None:
    """Runs are named by the second: the next one would take over the scope of one before."""
    for kind in (DefaultScope, MMLogger, MessageHub, Visualizer):
        kind._instance_dict.clear()


@pytest.fixture(autouse=True)
def alone():
    forget_runs()
    yield
    forget_runs()


@pytest.fixture(scope='module')
def base(tmp_path_factory) -> dict:
    """A run of one iteration on the CPU: a pair, its data, schedule and hooks."""
    root = tmp_path_factory.mktemp('mutations')
    write_coco(root, 'train', 2, CLASSES)
    config = dict(
        default_scope='mmdet',
        model=ssd_pair(),
        train_dataloader=dict(
            batch_size=2,
            num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=True),
            dataset=dict(
                type='CocoDataset',
                data_root=f'{root}/',
                ann_file='annotations/train.json',
                data_prefix=dict(img='JPEGImages/'),
                metainfo=dict(classes=CLASSES),
                pipeline=[
                    dict(type='LoadImageFromFile'),
                    dict(type='LoadAnnotations', with_bbox=True),
                    dict(type='Resize', scale=(64, 64), keep_ratio=False),
                    dict(type='RandomFlip', prob=0.5),
                    dict(type='PackDetInputs'),
                ],
            ),
        ),
        train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=1),
        optim_wrapper=dict(
            type='OptimWrapper',
            optimizer=dict(type='SGD', lr=0.001, momentum=0.9),
            clip_grad=dict(max_norm=10.0),
        ),
        param_scheduler=[
            dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=5),
            dict(type='CosineAnnealingLR', T_max=1, by_epoch=True, convert_to_iter_based=True),
        ],
        default_hooks=dict(
            logger=dict(type='LoggerHook', interval=1),
            checkpoint=dict(type='CheckpointHook', interval=99, save_last=False),
        ),
        custom_hooks=[dict(type='EMAHook', momentum=0.001), dict(type='mmdet.NumClassCheckHook')],
        visualizer=None,
        work_dir=f'{root}/run',
        experiment_name='mutations',
        log_level='ERROR',
    )
    torch.manual_seed(0)
    teacher = MODELS.build({**config['model']['teacher'], '_scope_': 'mmdet'})
    teacher.init_weights()
    torch.save(dict(state_dict=teacher.state_dict()), root / 'teacher.pth')
    config['model']['teacher_ckpt'] = str(root / 'teacher.pth')
    return config


@pytest.fixture(scope='module')
def yolo_base(base, tmp_path_factory) -> dict:
    """The same with YOLOv5s and YOLOv5n, a quarter as wide, on images of 128 px."""
    pytest.importorskip('mmyolo')
    config = Config.fromfile(ROOT / 'configs/yolov5_kd_s_to_n_digits.py')
    onto_tiny_data(config, tmp_path_factory.mktemp('yolo_mutations'))
    config = config.to_dict()
    for model in ('architecture', 'teacher'):
        detector = copy.deepcopy(config['model']['architecture'])
        for part in (detector['backbone'], detector['neck'], detector['bbox_head']['head_module']):
            part['widen_factor'] = 0.0625
        config['model'][model] = detector
    config['model']['distiller']['connectors']['adapter'].update(in_channels=32, out_channels=32)
    config['model'].pop('teacher_ckpt')
    config['train_dataloader']['batch_size'] = 2
    keys = ('model', 'train_dataloader', 'default_scope')
    return {**base, **{key: config[key] for key in keys}}


def mutate(config: dict, rng: random.Random) -> list[str]:
    """Break a key of ``config`` in place; tells its dotted path, of a swap both."""
    section = rng.choice(('model.distiller', 'model.distiller', 'model', *PARTS))
    found = [
        path
        for path, _ in entries(config)
        if '.'.join(path).startswith(section) or (section == 'hooks' and 'hooks' in path[0])
    ]
    path = rng.choice([p for p in found if p[0] != 'visualizer'])
    parent, key = value_at(config, path[:-1]), path[-1]
    key = int(key) if isinstance(parent, list) else key
    if isinstance(parent, tuple):  # mutated as a whole
        return mutate(config, rng)
    kind = rng.choice(('drop', 'rename', 'retype', 'retype', 'swap'))
    names = ['.'.join(path)]
    if kind == 'drop':
        del parent[key]
    elif kind == 'rename' and isinstance(parent, dict):
        parent[key + 'x'] = parent.pop(key)
        names[0] += 'x'
    elif kind == 'swap':
        other = rng.choice(list(parent) if isinstance(parent, dict) else range(len(parent)))
        parent[key], parent[other] = parent[other], parent[key]
        names.append('.'.join((*path[:-1], str(other))))
    else:
        parent[key] = copy.deepcopy(rng.choice(WRONG))
    return names


def named(message: str, path: str) -> bool:
    """Whether the message has the key's name, or the path of what holds it, down to a part."""
    parts = path.split('.')
    least = 2 if parts[0] == 'model' else 1
    holders = ['.'.join(parts[:end]) for end in range(least, len(parts) + 1)]
    keys = {parts[-1], parts[-1].removesuffix('x')} - {str(i) for i in range(20)}
    return any(re.search(rf'(?<!\w){re.escape(n)}(?!\w)', message) for n in [*holders, *keys])


def check(base: dict, seed: int) -> str:
    config = copy.deepcopy(base)
    names = mutate(config, random.Random(seed))
    torch.manual_seed(0)
    try:
        train(Config(config))
    except ConfigError as error:
        assert any(named(str(error), name) for name in names), f'{names}: {error}'
        return 'error'
    finally:
        forget_runs()
    return 'run'


def a_share(of: float) -> int:
    """How many examples: each is a run."""
    return int(of * settings.default.max_examples)


@settings(max_examples=a_share(0.3))
@given(seed=st.integers(0, 2**31))
def test_a_mutated_ssd_pair_runs_or_names_its_key(base, seed):
    check(base, seed)


@settings(max_examples=a_share(0.1))
@given(seed=st.integers(0, 2**31))
def test_a_mutated_yolov5_pair_runs_or_names_its_key(yolo_base, seed):
    check(yolo_base, seed)


@pytest.mark.parametrize('pair', ['base', 'yolo_base'])
def test_the_pairs_run(pair, request):
    train(Config(copy.deepcopy(request.getfixturevalue(pair))))


def edited(base: dict, path: str, **changes) -> Config:
    config = copy.deepcopy(base)
    node = value_at(config, tuple(path.split('.')))
    node.update(changes)
    return Config(config)


SOFT = 'model.distiller.distill_losses.loss_soft'


@pytest.mark.parametrize(
    ('path', 'changes', 'message'),
    [
        (SOFT, dict(temperatur=2.0), rf'^{SOFT}\.temperatur must .*Nearest: temperature'),
        (SOFT, dict(temperature='x'), rf'^{SOFT}.* feeds it: preds_S by student_recorders.head'),
        (SOFT, dict(type='WeightedSoftClass'), rf'^{SOFT}\.type must .*Nearest: WeightedSoftCls'),
        ('model', dict(teacher_ckpt='nowhere.pth'), r'^model\.teacher_ckpt must be an existing'),
        ('model', dict(teacher='nowhere.py'), r'^model\.teacher must'),
        (
            'model',
            dict(student_loss_weights=dict(cls=2)),
            r'^model\.student_loss_weights must name',
        ),
        (
            'model.architecture.bbox_head.anchor_generator',
            dict(stride=[8]),
            r'^model\.architecture\.bbox_head\.anchor_generator\.stride must .*Nearest: strides',
        ),
        (
            'model.architecture.train_cfg.assigner',
            dict(pos_iou_thr='x'),
            r'^model\.architecture\.train_cfg\.assigner must',
        ),
        (
            'train_dataloader.dataset.pipeline.2',
            dict(scale='x'),
            r'^train_dataloader\.dataset\.pipeline\.2.* must',
        ),
        ('optim_wrapper.optimizer', dict(lr='x'), r'^optim_wrapper\.optimizer'),
        ('optim_wrapper.optimizer', dict(type='SDG'), r'^optim_wrapper\.optimizer\.type.*Nearest'),
        ('param_scheduler.0', dict(beginn=1), r'^param_scheduler\.0\.beginn must .*Nearest: begin'),
        ('custom_hooks.0', dict(momentum='x'), r'^custom_hooks\.0'),
        ('train_cfg', dict(max_epochs=0), r'^train_cfg\.max_epochs must be a whole number above 0'),
    ],
)
def test_the_key_is_named_exactly(base, path, changes, message):
    with pytest.raises(ConfigError, match=message) as error:
        train(edited(base, path, **changes))
    assert '\n' not in str(error.value)


def test_nothing_trained_is_an_error(base):
    config = edited(base, 'train_dataloader', batch_size=8, drop_last=True)
    config.param_scheduler = None
    with pytest.raises(ConfigError, match='must make at least one iteration'):
        train(config)


def test_a_worker_and_a_teachers_file_are_told(base, tmp_path):
    """What a worker raises is text here; what a file lacks is not sought in the student."""
    config = edited(base, 'train_dataloader', num_workers=1)
    config.train_dataloader.dataset.pipeline[2].scale = (0, -3)
    with pytest.raises(ConfigError, match=r'^train_dataloader.* must .*cv2'):
        train(config)
    path = tmp_path / 'teacher.py'
    path.write_text(f'model = {dict(base["model"]["teacher"], neck=dict(type="Nek"))!r}')
    with pytest.raises(ConfigError, match=r'^model\.teacher\S* must .*"Nek"'):
        train(edited(base, 'model', teacher=str(path)))


def test_a_message_of_mmkd_stays_whole():
    """Long paths hide neither what was received nor the remedy; foreign text is cut."""
    classes = tuple(f'class {number}' for number in range(200))
    data = dict(type='CocoDataset', metainfo=dict(classes=classes * 2))
    config = Config(dict(default_scope='mmdet', train_dataloader=dict(dataset=data)))
    whole = pytest.raises(ConfigError, match=r'class 199 twice\. .*take the others out\.')
    with whole, config_errors(config):
        check_data(config, ('train',))
    with pytest.raises(ConfigError) as caught, config_errors(config):
        raise KeyError('train_dataloader ' + 'x' * 5000)
    assert len(str(caught.value)) < 1000


def test_what_is_not_of_the_config_passes(base, monkeypatch):
    monkeypatch.setattr('mmkd.algorithms.detection_distill.DetectionDistill.loss', exhausted)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        train(Config(copy.deepcopy(base)))
    config = edited(base, 'train_dataloader.dataset', data_root='nowhere/')
    with pytest.raises(FileNotFoundError, match=r'^train_dataloader: data_root must exist'):
        train(config)


def exhausted(*args, **kwargs):
    raise torch.cuda.OutOfMemoryError('out of memory')


def test_the_message_is_the_last_line(base, capsys):
    """Of a foreign error the traceback is above; mmkd's own say all. docs/pairs.md shows one."""
    for changes, foreign in ((dict(temperatur=1), True), (dict(type='Soft'), False)):
        with pytest.raises(ConfigError) as caught:
            train(edited(base, SOFT, **changes))
        capsys.readouterr()
        message_last(caught.type, caught.value, caught.tb)
        lines = capsys.readouterr().err.splitlines()
        assert lines[-1].startswith(f'mmkd: {SOFT}.')
        assert not foreign or lines[-1] in (ROOT / 'docs/pairs.md').read_text()
        assert ('unexpected keyword argument' in ''.join(lines[:-1])) is foreign
        assert (len(lines) == 1) is not foreign
    with pytest.raises(ValueError, match='no_image') as broken:  # mmkd_onnx is mmkd's as well
        read_image('no_image.jpg')
    message_last(broken.type, broken.value, broken.tb)
    assert re.match(r'mmkd: an image must be .*\n$', capsys.readouterr().err)
    message_last(KeyError, KeyError('x'), None)
    assert capsys.readouterr().err == "KeyError: 'x'\n"
