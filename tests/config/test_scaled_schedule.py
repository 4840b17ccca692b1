"""``--epochs``: each moment of a schedule moves in proportion."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmengine.config import Config
from mmengine.registry import PARAM_SCHEDULERS

from mmkd.config.config_errors import ConfigError
from mmkd.config.scaled_schedule import TrainingLength, set_epochs

pytestmark = pytest.mark.usefixtures('mmdet_scope')


def schedule(epochs: int = 300) -> Config:
    return Config(
        dict(
            train_cfg=dict(
                type='EpochBasedTrainLoop',
                max_epochs=epochs,
                val_interval=10,
                val_begin=1,
                dynamic_intervals=[(280, 1)],
            ),
            param_scheduler=[
                dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=1000),
                dict(
                    type='CosineAnnealingLR',
                    T_max=150,
                    begin=150,
                    end=300,
                    by_epoch=True,
                    convert_to_iter_based=True,
                ),
                dict(type='MultiStepLR', milestones=[200, 270], gamma=0.1, end=300),
            ],
            default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=10, save_begin=60)),
            custom_hooks=[
                dict(type='EMAHook', begin_epoch=30, priority=49),
                dict(type='PipelineSwitchHook', switch_epoch=280, switch_pipeline=[dict(end=9)]),
                dict(type='YOLOXModeSwitchHook'),
                dict(type='DistillWeightHook', start_factor=1, end_factor=0, begin=150, end=240),
            ],
            model=dict(bbox_head=dict(type='TOODHead', initial_epoch=4)),
        )
    )


def test_each_moment_moves_and_is_told():
    cfg = schedule()
    lines = set_epochs(cfg, 30)
    assert cfg.train_cfg.max_epochs == 30 and cfg.train_cfg.dynamic_intervals == [(28, 1)]
    warm, cosine, steps = cfg.param_scheduler
    assert (warm.begin, warm.end, warm.start_factor) == (0, 100, 0.1)
    assert (cosine.T_max, cosine.begin, cosine.end) == (15, 15, 30)
    assert steps.milestones == [20, 27] and steps.end == 30 and steps.gamma == 0.1
    assert cfg.default_hooks.checkpoint == dict(type='CheckpointHook', interval=10, save_begin=6)
    ema, switch, yolox, weight = cfg.custom_hooks
    assert (ema.begin_epoch, ema.priority) == (3, 49)
    assert switch.switch_epoch == 28 and switch.switch_pipeline == [dict(end=9)]
    assert yolox.num_last_epochs == 2, 'its default of 15'
    assert (weight.begin, weight.end, weight.start_factor) == (15, 24, 1)
    assert cfg.model.bbox_head.initial_epoch == 1, 'rounded to 0, but at least 1'
    assert 'param_scheduler.0.end: 1000 -> 100' in lines
    assert 'train_cfg.max_epochs: 300 -> 30' in lines


def test_intervals_are_at_most_the_training():
    cfg = schedule()
    set_epochs(cfg, 3)
    assert cfg.train_cfg.val_interval == 3 and cfg.default_hooks.checkpoint.interval == 3
    cfg = schedule()
    assert not set_epochs(cfg, 300)
    assert cfg.train_cfg.val_interval == 10


@given(epochs=st.integers(1, 2000))
def test_moments_stay_whole_in_order_and_within(epochs):
    cfg = schedule()
    set_epochs(cfg, epochs)
    _, cosine, steps = cfg.param_scheduler
    numbers = [cosine.T_max, cosine.begin, *steps.milestones, cfg.custom_hooks[0].begin_epoch]
    assert all(isinstance(n, int) and 1 <= n <= max(epochs, 1) for n in numbers)
    assert steps.milestones == sorted(steps.milestones)
    assert cosine.end == max(epochs, cosine.begin + 1) and epochs == cfg.train_cfg.max_epochs
    assert cfg.train_cfg.val_interval == min(10, epochs)


@pytest.mark.parametrize('epochs', [1, 2, 3, 7])
@pytest.mark.parametrize('per_epoch', [1, 9])
def test_what_is_left_of_yoloxs_schedule_is_built(epochs, per_epoch):
    """Its parts come one after the other, and each needs room."""
    common = dict(by_epoch=True, convert_to_iter_based=True)
    parts = [
        dict(type='QuadraticWarmupLR', begin=0, end=5, **common),
        dict(type='CosineAnnealingLR', T_max=285, begin=5, end=285, **common),
        dict(type='ConstantLR', factor=1, begin=285, end=300, **common),
    ]
    cfg = Config(dict(train_cfg=dict(max_epochs=300), param_scheduler=parts))
    set_epochs(cfg, epochs)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    built = [
        PARAM_SCHEDULERS.build(part, default_args=dict(optimizer=optimizer, epoch_length=per_epoch))
        for part in cfg.param_scheduler
    ]
    for _ in range(epochs * per_epoch):
        optimizer.step()
        for scheduler in built:
            scheduler.step()
    assert 0 <= optimizer.param_groups[0]['lr'] <= 0.1 + 1e-9


@pytest.mark.parametrize('epochs', [0, -1])
def test_no_epoch_is_refused(epochs):
    with pytest.raises(ConfigError, match='--epochs must be a whole number above 0'):
        set_epochs(schedule(), epochs)


def test_a_training_by_iterations_is_told_its_key():
    cfg = Config(dict(train_cfg=dict(type='IterBasedTrainLoop', max_iters=10)))
    with pytest.raises(ConfigError, match=r'Set train_cfg\.max_iters'):
        set_epochs(cfg, 1)


def test_a_teacher_is_trained_shorter_by_the_same_factor():
    length = TrainingLength(30)
    length.apply(schedule(300))
    teacher = schedule(100)
    length.apply_to_teacher(teacher)
    assert teacher.train_cfg.max_epochs == 10
    assert 'teacher: train_cfg.max_epochs: 100 -> 10' in length.lines
    same = TrainingLength()
    same.apply(schedule())
    same.apply_to_teacher(teacher)
    assert teacher.train_cfg.max_epochs == 10 and not same.lines


def test_a_teacher_that_counts_iterations_is_trained_shorter_as_well():
    length = TrainingLength(30)
    length.apply(schedule(300))
    teacher = Config(
        dict(
            train_cfg=dict(type='IterBasedTrainLoop', max_iters=5000, val_interval=1000),
            param_scheduler=[dict(type='MultiStepLR', by_epoch=False, milestones=[4000], end=5000)],
            default_hooks=dict(
                checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=1000)
            ),
        )
    )
    length.apply_to_teacher(teacher)
    assert teacher.train_cfg == dict(type='IterBasedTrainLoop', max_iters=500, val_interval=500)
    assert teacher.param_scheduler[0].milestones == [400]
    assert teacher.default_hooks.checkpoint.interval == 100
    assert 'teacher: train_cfg.max_iters: 5000 -> 500' in length.lines


@given(
    periods=st.lists(st.integers(1, 30), min_size=1, max_size=6),
    epochs=st.integers(1, 200),
)
def test_periods_fill_the_training(periods, epochs):
    """Each rounded by itself, ten epochs of one would stay ten of fourteen."""
    restart = dict(type='CosineRestartLR', periods=periods, eta_min=0)
    cfg = Config(dict(train_cfg=dict(max_epochs=sum(periods)), param_scheduler=[restart]))
    set_epochs(cfg, epochs)
    found = cfg.param_scheduler[0].periods
    assert len(found) == len(periods) and min(found) >= 1
    assert sum(found) >= epochs
    if epochs >= sum(periods):
        assert sum(found) == epochs
