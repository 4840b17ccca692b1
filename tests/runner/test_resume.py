"""A run that is killed anywhere, or finds the disk full, and resumed ends as one never stopped."""

import copy
import itertools
import json
import os
import pickle
import random
import resource
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmdet.models.backbones import ResNet
from mmdet.models.data_preprocessors import BatchSyncRandomResize
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.fileio import LocalBackend
from mmengine.hooks import Hook, checkpoint_hook

from mmkd.datasets.seeding import SeededDataset, SeededIndex, SeededSampler
from mmkd.fileio import atomic_writes as whole
from mmkd.hooks.exact_resume_hook import forgetful_parts
from mmkd.runner.exact_runner import ExactRunner
from mmkd.runner.resume import prepare_resume
from tests.processes import start as start_process
from tests.tiny import tiny_pair, tiny_ssd, write_coco
from tests.zoo import taught

CLASSES = ('ant', 'bee', 'cat')


@MODELS.register_module(force=True)
class DroppingResNet(ResNet):
    """Draws at random in the main process."""

    def forward(self, x):
        return tuple(F.dropout(f, 0.2, self.training) for f in super().forward(x))


def config(data: str, work_dir: str, **changes) -> Config:
    """3 epochs of 4 iterations with all that has a memory: EMA, schedules, accumulation, Adam."""
    student = tiny_ssd()
    student['backbone']['type'] = 'DroppingResNet'
    load = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True)]
    small = dict(type='Resize', scale=(64, 64), keep_ratio=False)
    images = dict(
        type='CocoDataset',
        data_root=data,
        ann_file='annotations/train.json',
        data_prefix=dict(img='JPEGImages/'),
        metainfo=dict(classes=CLASSES),
    )
    mixed = [
        dict(type='Mosaic', img_scale=(64, 64)),
        dict(type='PhotoMetricDistortion'),
        dict(type='RandomFlip', prob=0.5),
        small,
        dict(type='PackDetInputs'),
    ]
    keys = ('img_id', 'ori_shape', 'img_shape', 'scale_factor')
    seen = [*load, small, dict(type='PackDetInputs', meta_keys=keys)]
    val = dict(**images, test_mode=True, pipeline=seen)
    cfg = dict(
        default_scope='mmdet',
        work_dir=work_dir,
        model=tiny_pair(architecture=student),
        train_dataloader=dict(
            batch_size=2,
            num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=True),
            dataset=dict(
                type='MultiImageMixDataset', dataset=dict(**images, pipeline=load), pipeline=mixed
            ),
        ),
        val_dataloader=dict(
            batch_size=4, sampler=dict(type='DefaultSampler', shuffle=False), dataset=val
        ),
        val_evaluator=dict(type='CocoMetric', ann_file=f'{data}/annotations/train.json'),
        val_cfg=dict(type='ValLoop'),
        train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=3, val_interval=3),
        optim_wrapper=dict(
            type='OptimWrapper',
            optimizer=dict(type='AdamW', lr=0.002),
            accumulative_counts=2,
            clip_grad=dict(max_norm=5),
        ),
        param_scheduler=[
            dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=6),
            dict(type='CosineAnnealingLR', T_max=3),
        ],
        default_hooks=dict(
            checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=1),
            logger=dict(type='LoggerHook', interval=1),
            export_student=dict(type='ExportStudentHook'),
        ),
        custom_hooks=[dict(type='EMAHook', momentum=0.1)],
        randomness=dict(seed=None, deterministic=True),
        log_level='WARNING',
    )
    cfg = Config(cfg)
    cfg.merge_from_dict(copy.deepcopy(changes))  # it takes "_delete_" out
    return cfg


def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)


class Stop(Hook):
    """Lets one thing go wrong from an iteration on."""

    def __init__(self, what: str, iteration: int) -> None:
        self.what, self.iteration = what, iteration

    def after_train_iter(self, runner, *args, **kwargs):
        if runner.iter != self.iteration:
            return
        if self.what == 'train':
            die()
        if self.what == 'write':  # the new checkpoint is not yet whole
            whole.os.fsync = die
        if self.what == 'point':  # it is, but last_checkpoint still names the old one
            checkpoint_hook.open = die
        if self.what == 'remove':  # last_checkpoint names it, the old one is still there
            LocalBackend.remove = die
        if self.what == 'full':
            limit = Path(runner.work_dir, 'epoch_1.pth').stat().st_size // 2
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    def before_val_iter(self, *args, **kwargs):
        if self.what == 'validate':
            die()


def train(cfg: Config, stop: tuple[str, int] | None, resume: bool) -> None:
    sys.stderr = open(Path(cfg.work_dir).with_suffix('.stderr'), 'w')  # noqa: SIM115
    if resume:
        prepare_resume(cfg)
    runner = ExactRunner.from_cfg(cfg)
    if stop:
        runner.register_hook(Stop(*stop), priority='HIGHEST')
    runner.train()


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """Train in a process of its own: ``run(name, stop, resume=..., **config changes)``."""
    root = tmp_path_factory.mktemp('resume')
    write_coco(root / 'data', 'train', 8, CLASSES, seed=1)

    def start(name: str, stop=None, resume: bool = False, **changes) -> tuple[Path, int]:
        cfg = config(str(root / 'data'), str(root / name), **changes)
        process = start_process(train, cfg, stop, resume)
        process.join(120)
        return root / name, process.exitcode

    return start


@pytest.fixture(scope='module')
def straight(run) -> Path:
    """A run that was never stopped."""
    folder, code = run('straight')
    assert code == 0, folder.with_suffix('.stderr').read_text()
    return folder


def load(path: Path) -> dict:
    return torch.load(path, map_location='cpu')


def seed_of(folder: Path) -> int:
    return load(folder / 'epoch_3.pth')['meta']['seed']


def assert_equal(first, second, where: str) -> None:
    assert type(first) is type(second), where
    if isinstance(first, torch.Tensor):
        assert torch.equal(first, second), where
    elif isinstance(first, dict):
        assert first.keys() == second.keys(), where
        for key in first:
            assert_equal(first[key], second[key], f'{where}.{key}')
    elif isinstance(first, list | tuple):
        assert len(first) == len(second), where
        for i, pair in enumerate(zip(first, second, strict=True)):
            assert_equal(*pair, f'{where}[{i}]')
    else:
        assert first == second, where


def assert_same_end(folder: Path, other: Path, name: str = 'epoch_3.pth') -> None:
    """All that training made is the same, bit by bit."""
    first, second = load(folder / name), load(other / name)
    parts = ('state_dict', 'optimizer', 'param_schedulers', 'ema_state_dict', 'gradients')
    for part in parts:
        assert_equal(first[part], second[part], part)
    student = 'student.pth'
    assert_equal(load(folder / student)['state_dict'], load(other / student)['state_dict'], student)
    assert not list(folder.glob(f'.*{whole.PARTIAL}'))


def test_killed_anywhere_and_resumed_the_end_is_the_same(run, straight):
    first = {'randomness.seed': seed_of(straight)}
    stops = [('train', 5), ('write', 7), ('point', 7), ('remove', 7), ('validate', 9)]
    kept = []
    for number, stop in enumerate(stops):
        # Only the first has a seed in its config: the others take it from the checkpoint.
        folder, code = run('killed', stop, resume=number > 0, **(first if number == 0 else {}))
        assert code == -signal.SIGKILL, folder.with_suffix('.stderr').read_text()
        kept.append({path.name for path in folder.glob('*.pth')})
        load(folder / (folder / 'last_checkpoint').read_text().split('/')[-1])  # is whole
    one, two, three = 'epoch_1.pth', 'epoch_2.pth', 'epoch_3.pth'
    assert kept[:4] == [{one}, {one}, {one, two}, {one, two}]
    assert three in kept[4] and 'student.pth' not in kept[4]
    folder, code = run('killed', resume=True)
    assert code == 0
    assert_same_end(folder, straight)
    [log, *_] = sorted(folder.glob('*/vis_data/scalars.json'), reverse=True)
    assert 'coco/bbox_mAP' in json.loads(log.read_text().splitlines()[-1])


def test_a_pair_taught_by_many_methods_is_resumed_exactly(run):
    """Of those that draw at random, count steps, or train parts of their own."""
    names = ('mgd', 'soft_ground_truth', 'crosskd', 'cross_head', 'score_imitation', 'ld')
    model = taught('gfl', 'gfl', *names, balance=dict(shares=0.5, interval=3))
    changes = {'model': dict(_delete_=True, **model), 'randomness.seed': 1}
    changes['train_cfg.val_interval'] = 9
    folder, code = run('many', **changes)
    assert code == 0, folder.with_suffix('.stderr').read_text()
    assert run('many_killed', ('train', 6), **changes)[1] == -signal.SIGKILL
    other, code = run('many_killed', resume=True, **changes)
    assert code == 0
    assert_same_end(other, folder)


def test_workers_that_live_on_change_nothing(run, straight):
    workers = {
        'train_dataloader.num_workers': 1,
        'train_dataloader.persistent_workers': True,
        'randomness.seed': seed_of(straight),
    }
    assert run('workers', ('train', 9), **workers)[1] == -signal.SIGKILL
    folder, code = run('workers', resume=True, **workers)
    assert code == 0
    assert_same_end(folder, straight)


def test_full_disk_stops_with_a_message_and_leaves_what_was_there(run, straight):
    seed = {'randomness.seed': seed_of(straight)}
    folder, code = run('full', ('full', 6), **seed)
    message = folder.with_suffix('.stderr').read_text().splitlines()[-1]
    assert code == 1 and 'must be written whole' in message
    assert 'epoch_2.pth' in message and 'MB free' in message and '--resume' in message
    assert [path.name for path in folder.glob('*.pth')] == ['epoch_1.pth']
    assert not list(folder.glob(f'.*{whole.PARTIAL}'))
    assert (folder / 'last_checkpoint').read_text().endswith('epoch_1.pth')
    assert run('full', resume=True)[1] == 0
    assert_same_end(folder, straight)


def test_resume_from_within_an_epoch_and_an_accumulation(run, straight):
    by_iter = {
        'default_hooks.checkpoint': dict(interval=3, by_epoch=False, max_keep_ckpts=-1),
        'randomness.seed': seed_of(straight),
    }
    folder, code = run('within', ('train', 7), **by_iter)
    assert code == -signal.SIGKILL and load(folder / 'iter_3.pth')['gradients']
    (folder / 'iter_6.pth').write_bytes(b'torn')  # and iter_3 is the newest that is whole
    assert run('within', resume=True, **by_iter)[1] == 0
    assert run('within', resume=True)[1] == 0  # iter_12 is the epoch's last, without its end
    assert_same_end(folder, straight)


def test_channels_last_and_fused_the_end_is_the_same_and_in_the_usual_layout(run, straight):
    last = {
        'default_hooks.channels_last': dict(type='ChannelsLastHook'),
        'default_hooks.checkpoint': dict(interval=3, by_epoch=False, max_keep_ckpts=-1),
        'optim_wrapper.optimizer.fused': True,
        'randomness.seed': seed_of(straight),
    }
    other, code = run('last', **last)
    assert code == 0, other.with_suffix('.stderr').read_text()
    assert run('last_killed', ('train', 7), **last)[1] == -signal.SIGKILL
    folder, code = run('last_killed', resume=True, **last)
    assert code == 0
    assert_same_end(folder, other, 'iter_12.pth')
    saved = load(folder / 'iter_12.pth')
    for part in ('state_dict', 'ema_state_dict'):
        assert all(v.is_contiguous() for v in saved[part].values()), part


def test_resume_by_iterations(run):
    """An endless sampler goes on where it was."""
    endless = {
        'train_cfg': dict(_delete_=True, type='IterBasedTrainLoop', max_iters=7, val_interval=99),
        'train_dataloader.sampler': dict(_delete_=True, type='InfiniteSampler'),
        'param_scheduler': [dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=6)],
        'default_hooks.checkpoint': dict(interval=5, by_epoch=False),
        'randomness.seed': 3,
    }
    other, code = run('endless', **endless)
    assert code == 0, other.with_suffix('.stderr').read_text()
    endless['train_dataloader.num_workers'] = 1
    assert run('endless_killed', ('train', 5), **endless)[1] == -signal.SIGKILL
    folder, code = run('endless_killed', resume=True, **endless)
    assert code == 0
    assert_same_end(folder, other, 'iter_7.pth')


# Which checkpoint


@pytest.fixture
def work_dir(tmp_path) -> Path:
    """Checkpoints of three epochs and one of weights alone, each newer than the one before."""
    meta = dict(epoch=1, iter=4, seed=7)
    state = dict(state_dict=dict(a=torch.ones(1)), optimizer={}, meta=meta)
    for number in (1, 2, 3):
        torch.save(state, tmp_path / f'epoch_{number}.pth')
        os.utime(tmp_path / f'epoch_{number}.pth', (number, number))
    torch.save(dict(state_dict=state['state_dict'], meta=meta), tmp_path / 'student.pth')
    (tmp_path / 'last_checkpoint').write_text('/from/elsewhere/epoch_3.pth')
    return tmp_path


def test_the_last_checkpoint_and_its_seed_are_taken(work_dir):
    cfg = Config(dict(work_dir=str(work_dir), randomness=dict(seed=8, deterministic=True)))
    prepare_resume(cfg)
    assert cfg.resume and cfg.load_from == str(work_dir / 'epoch_3.pth')
    assert cfg.randomness == dict(seed=7, deterministic=True)


@pytest.mark.parametrize('damage', ['torn', 'missing', 'empty pointer'])
def test_the_newest_whole_one_stands_in(work_dir, damage):
    if damage == 'torn':
        data = (work_dir / 'epoch_3.pth').read_bytes()
        (work_dir / 'epoch_3.pth').write_bytes(data[: len(data) // 2])
    elif damage == 'missing':
        (work_dir / 'epoch_3.pth').unlink()
    else:
        (work_dir / 'last_checkpoint').write_text('')
    cfg = Config(dict(work_dir=str(work_dir)))
    prepare_resume(cfg)
    newest = 'epoch_3.pth' if damage == 'empty pointer' else 'epoch_2.pth'
    assert cfg.load_from == str(work_dir / newest)


def test_none_is_whole(work_dir):
    for path in work_dir.glob('epoch_*.pth'):
        path.write_bytes(b'torn')
    with pytest.raises(ValueError, match=r'needs a whole checkpoint.*Remove .*last_checkpoint'):
        prepare_resume(Config(dict(work_dir=str(work_dir))))


def test_weights_alone_are_no_state_of_a_run(work_dir):
    cfg = Config(dict(work_dir=str(work_dir)))
    with pytest.raises(ValueError, match=r'optimizer, epoch.*weights alone.*load_from'):
        prepare_resume(cfg, str(work_dir / 'student.pth'))


def test_without_a_checkpoint_the_run_begins_anew(tmp_path):
    cfg = Config(dict(work_dir=str(tmp_path), load_from='pretrained.pth', resume=True))
    prepare_resume(cfg)
    assert not cfg.resume and cfg.load_from == 'pretrained.pth'


# Randomness without memory


class Noise(torch.utils.data.Dataset):
    """Draws from all three generators."""

    level = 1.0

    def __getitem__(self, index):
        draws = [random.random(), np.random.rand(), torch.rand(()).item()]
        return [index, *(self.level * draw for draw in draws)]

    def __len__(self):
        return 6


def draws(epoch: int, sampler: str = 'DefaultSampler', **changes):
    dataset = SeededDataset(Noise(), seed=5)
    order = SeededSampler(dict(type=sampler), dataset, seed=5)
    order.set_epoch(epoch)
    loader = torch.utils.data.DataLoader(
        dataset, sampler=order, collate_fn=lambda batch: batch, **changes
    )
    batches = itertools.islice(loader, 12)
    return [tuple(sample) for batch in batches for sample in batch]


def test_an_image_follows_from_seed_epoch_and_index():
    torch.manual_seed(0)
    first = draws(0)
    assert len(set(first)) == 6
    assert first == draws(0, num_workers=1) == draws(0, batch_size=3)
    assert set(first).isdisjoint(draws(1))


def test_an_image_seen_again_is_drawn_anew():
    again = draws(0, 'InfiniteSampler')
    assert len(again) == 12 and len({sample[1] for sample in again}) == 12


def test_hooks_reach_the_data_set_behind():
    dataset = SeededDataset(Noise(), seed=5)
    dataset.level = 0.0
    copied = pickle.loads(pickle.dumps(dataset))  # as a spawned worker gets it
    assert copied[SeededIndex.of(3, 0, 3)] == [3, 0.0, 0.0, 0.0]


def test_what_cannot_go_on_exactly_is_named():
    loader = dict(dataset=dict(pipeline=[dict(type='Mosaic', use_cached=True)]))
    runner = SimpleNamespace(
        cfg=Config(dict(train_dataloader=loader)),
        model=torch.nn.Sequential(BatchSyncRandomResize((32, 64))),
    )
    named = list(forgetful_parts(runner))
    assert [text.split()[0] for text in named] == ['Mosaic', 'BatchSyncRandomResize']
