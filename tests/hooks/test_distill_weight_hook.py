"""Weights of the distillation losses over time; what is at 0 costs nothing."""

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.hooks import Hook
from mmrazor.models.task_modules.recorder import ModuleOutputsRecorder

from mmkd.hooks.distill_weight_hook import DistillWeightHook, schedule_factor
from tests.tiny import raw_batch, tiny_pair, tiny_runner, tiny_ssd_with_adapters

pytestmark = pytest.mark.usefixtures('mmdet_scope')


def build(config=None):
    torch.manual_seed(0)
    return MODELS.build(config or tiny_pair())


def logs_of(model):
    model.train()
    data = model.data_preprocessor(raw_batch(), training=True)
    return model.parse_losses(model(**data, mode='loss'))[1]


def count_forwards(model):
    """A list that grows with each forward of the teacher."""
    calls = []
    model.teacher.backbone.register_forward_hook(lambda *_: calls.append(1))
    return calls


@pytest.mark.parametrize(
    'settings, expected',
    [
        ((0, 4, 0.0, 1.0), [0, 0.25, 0.5, 0.75, 1, 1]),  # warm-up
        ((2, 4, 1.0, 0.0), [1, 1, 1, 0.5, 0, 0]),  # decay
        ((3, 3, 1.0, 0.0), [1, 1, 1, 0, 0, 0]),  # stop
        ((0, 4, 1.0, 0.0, 'cosine'), [1, (1 + 0.5**0.5) / 2, 0.5, (1 - 0.5**0.5) / 2, 0, 0]),
    ],
)
def test_schedules(settings, expected):
    assert [schedule_factor(now, *settings) for now in range(6)] == pytest.approx(expected)


def test_a_factor_scales_its_term_and_is_logged():
    model = build()
    plain = logs_of(model)
    assert not any(name.endswith('_weight') for name in plain)
    model.distill_factors = dict(loss_soft=0.5)
    halved = logs_of(model)
    torch.testing.assert_close(halved['distill.loss_soft'], plain['distill.loss_soft'] / 2)
    torch.testing.assert_close(halved['distill.loss_bounded'], plain['distill.loss_bounded'])
    assert halved['distill.soft_weight'] == 0.5
    terms = [value for name, value in halved.items() if 'loss' in name and name != 'loss']
    torch.testing.assert_close(halved['loss'], sum(terms))  # no factor is back-propagated


@pytest.mark.parametrize('name', ['kd_loss', 'loss', 'loss_soft'])
def test_statistics_are_never_back_propagated(name):
    config = tiny_pair()
    distiller = config['distiller']
    distiller['distill_losses'] = {name: distiller['distill_losses']['loss_soft']}
    distiller['loss_forward_mappings'] = {name: distiller['loss_forward_mappings']['loss_soft']}
    model = build(config)
    model.distill_factors = {name: 1.0}
    own = {key for key in logs_of(model) if key.startswith('distill.') and 'loss' in key}
    assert own == {f'distill.{name}'}


def test_a_loss_at_0_is_not_computed(monkeypatch):
    model = build()
    calls = count_forwards(model)
    model.distill_factors = dict(loss_soft=0.0)
    monkeypatch.setattr(model.distiller.distill_losses['loss_soft'], 'forward', None)
    logs = logs_of(model)
    assert logs['distill.loss_soft'] == 0 and 'distill.soft_mined' not in logs
    assert logs['distill.bounded_active'] >= 0 and len(calls) == 1
    assert set(model.distiller.loss_forward_mappings) == {'loss_soft', 'loss_bounded'}


@pytest.mark.parametrize('how', ['factors', 'loss_weight', 'stopped'])
def test_all_at_0_does_not_run_the_teacher(how, monkeypatch):
    model = build(tiny_ssd_with_adapters())
    calls = count_forwards(model)
    logs_of(model)
    assert len(calls) == 1
    if how == 'factors':
        model.distill_factors = dict.fromkeys(model.distiller.distill_losses, 0.0)
    elif how == 'loss_weight':
        for loss in model.distiller.distill_losses.values():
            loss.loss_weight = 0.0
    else:
        model.distillation_stopped = True
    entered = []
    enter = ModuleOutputsRecorder.__enter__
    monkeypatch.setattr(
        ModuleOutputsRecorder, '__enter__', lambda self: (entered.append(self), enter(self))[1]
    )
    logs = logs_of(model)
    assert len(calls) == 1
    assert entered and not {*entered} & {*model.distiller.teacher_recorders.recorders.values()}
    distilled = {key: value.item() for key, value in logs.items() if key.startswith('distill.loss')}
    assert distilled == {f'distill.{name}': 0 for name in model.distiller.distill_losses}
    logs['loss'].backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


class Watch(Hook):
    """Remembers of each iteration the factors and how often the teacher has run."""

    def __init__(self, model):
        self.model, self.calls, self.seen = model, count_forwards(model), []

    def after_train_iter(self, runner, *args, **kwargs):
        factors = self.model.distill_factors
        self.seen.append((factors['loss_soft'], factors['loss_bounded'], len(self.calls)))


def train(work_dir, hooks, epochs=3, **changes):
    """Three epochs of two batches; what was seen in each iteration."""
    model = build()
    watch = Watch(model)
    changes.setdefault('train_cfg', dict(by_epoch=True, max_epochs=epochs))
    images = [raw_batch(1, seed=seed) for seed in (0, 1)]
    runner = tiny_runner(model, images, work_dir, custom_hooks=[*hooks, watch], **changes)
    runner.train()
    return watch.seen


WARM_UP = dict(type='DistillWeightHook', start_factor=0.0, end_factor=1.0, end=2, by_epoch=False)
DECAY = dict(
    type='DistillWeightHook', start_factor=1.0, end_factor=0.5, begin=1, end=1, losses=['loss_soft']
)
STOP = dict(type='DistillWeightHook', start_factor=1.0, end_factor=0.0, begin=2, end=2)


def test_in_a_training_and_after_a_resume(tmp_path):
    hooks = [WARM_UP, DECAY, STOP]
    seen = train(tmp_path, hooks)
    assert [factors[:2] for factors in seen] == [
        (0, 0),
        (0.5, 0.5),
        (0.5, 1),
        (0.5, 1),
        (0, 0),
        (0, 0),
    ]
    assert [count for *_, count in seen] == [0, 1, 2, 3, 3, 3]
    resumed = train(tmp_path, hooks, load_from=f'{tmp_path}/epoch_1.pth', resume=True)
    assert [factors[:2] for factors in resumed] == [factors[:2] for factors in seen[2:]]


def test_mmrazors_hook_stops_the_teacher_too(tmp_path):
    steady = dict(type='DistillWeightHook', start_factor=1.0, end_factor=1.0, end=0)
    seen = train(tmp_path, [steady, dict(type='mmrazor.StopDistillHook', stop_epoch=1)], epochs=2)
    assert [count for *_, count in seen] == [1, 2, 2, 2]


@pytest.mark.parametrize(
    'changes, match',
    [
        (dict(begin=3), 'begin <= end'),
        (dict(start_factor=-1.0), 'factors >= 0'),
        (dict(curve='step'), "'linear' or 'cosine'"),
    ],
)
def test_arguments_out_of_range_are_refused(changes, match):
    with pytest.raises(ValueError, match=match):
        DistillWeightHook(**{**dict(start_factor=0.0, end_factor=1.0, end=2), **changes})


def test_unknown_losses_and_units_are_refused_before_the_first_step(tmp_path):
    with pytest.raises(ValueError, match=r'loss_soft, loss_bounded.*got loss_sof'):
        train(tmp_path, [{**STOP, 'losses': ['loss_sof']}])
    with pytest.raises(ValueError, match='by_epoch must be False'):
        train(tmp_path, [STOP], train_cfg=dict(by_epoch=False, max_iters=1))
