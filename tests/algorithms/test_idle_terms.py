"""A term that teaches nothing stops the run; one that had its reasons, or once taught, does not."""

import copy

import pytest
import torch
from mmdet.registry import MODELS
from torch import nn

from mmkd.algorithms.idle_terms import PATIENCE, IdleTerms
from mmkd.doctor.report import Section
from mmkd.doctor.step import check_losses, take_step
from mmkd.hooks.distill_weight_hook import DistillWeightHook
from mmkd.hooks.pair_report_hook import PairReportHook
from tests.tiny import raw_batch, tiny_pair, tiny_runner
from tests.zoo import pair, small

pytestmark = pytest.mark.usefixtures('mmdet_scope')
FEATURES = ('s_feature', 't_feature')


class Idle(nn.Module):
    """A loss that is 0 up to its step ``start`` and again from ``end`` on."""

    idle_without = None

    def __init__(self, start=1000, end=1000, gradient=False, statistic=None, loss_weight=1.0):
        super().__init__()
        self.start, self.end, self.gradient = start, end, gradient
        self.calls, self.loss_weight = 0, loss_weight
        self.logs = {}
        if statistic is not None:
            self.idle_without, self.logs = 'mined', dict(mined=torch.tensor(statistic))

    def forward(self, preds_S, preds_T, targets=None):
        level, self.calls = preds_S[0].mean(), self.calls + 1
        if self.gradient:
            return level - level.detach()
        return level.abs() if self.start <= self.calls < self.end else level * 0.0


MODELS.register_module('Idle', force=True, module=Idle)


def train(tmp_path, steps=12, boxes=2, hooks=(), loss=None, wrapper=None, **changes):
    """A run in which ``loss_idle`` stands beside another term."""
    config = copy.deepcopy(tiny_pair(**changes))
    distiller = config['distiller']
    distiller['distill_losses'] = dict(
        loss_soft=distiller['distill_losses']['loss_soft'],
        loss_idle=dict(type='mmdet.Idle', **(loss or {})),
    )
    soft = distiller['loss_forward_mappings']['loss_soft']
    distiller['loss_forward_mappings'] = dict(loss_soft=soft, loss_idle=copy.deepcopy(soft))
    images = [raw_batch(1, boxes=boxes, seed=seed) for seed in range(steps)]
    settings = dict(optim_wrapper=wrapper) if wrapper else {}
    runner = tiny_runner(MODELS.build(config), images, tmp_path, **settings)
    for hook in (PairReportHook(), *hooks):
        runner.register_hook(hook)
    runner.train()
    return runner


def told(tmp_path):
    [log] = tmp_path.glob('*/*.log')
    return log.read_text()


def test_a_term_that_teaches_nothing_stops_the_run_beside_others(tmp_path):
    with pytest.raises(ValueError, match=r'but loss_idle and its gradient.*first 10 batches'):
        train(tmp_path)
    assert 'Exactly 0 at the first step: distill.loss_idle' in told(tmp_path)


def test_with_balance_mixed_precision_and_accumulation(tmp_path):
    wrapper = dict(type='CpuAmpOptimWrapper', optimizer=dict(type='SGD', lr=0.01))
    wrapper.update(accumulative_counts=2)
    with pytest.raises(ValueError, match='but loss_idle and its gradient'):
        train(tmp_path, wrapper=wrapper, balance=dict(shares=0.5))


@pytest.mark.parametrize(
    'loss',
    [
        dict(start=10),  # at work in the tenth batch
        dict(gradient=True),  # its value is 0, its gradient is not
        dict(statistic=0.0),  # no positives
        dict(loss_weight=0.0),  # off
    ],
)
def test_what_has_its_reasons_does_not(tmp_path, loss):
    assert train(tmp_path, loss=loss).iter == 12
    assert ('look at its mined' in told(tmp_path)) == ('statistic' in loss)


def test_batches_without_objects_say_nothing(tmp_path):
    assert train(tmp_path, boxes=0).iter == 12


def test_a_statistic_that_is_not_0_is_no_reason(tmp_path):
    with pytest.raises(ValueError, match='but loss_idle and its gradient'):
        train(tmp_path, loss=dict(statistic=3.0))


def test_a_warm_up_from_0_is_not_counted(tmp_path):
    warm = DistillWeightHook(0.0, 1.0, begin=4, end=4, by_epoch=False)
    assert train(tmp_path, steps=12, hooks=[warm]).iter == 12
    with pytest.raises(ValueError, match='but loss_idle and its gradient'):
        train(tmp_path / 'longer', steps=14, hooks=[warm])


def test_later_it_is_told_once(tmp_path):
    assert train(tmp_path, steps=35, loss=dict(start=1, end=5)).iter == 35
    message = 'distill.loss_idle and its gradient have been exactly 0 in 10 batches'
    assert told(tmp_path).count(message) == 1


def test_a_short_run_ends_with_a_word(tmp_path):
    train(tmp_path, steps=3)
    assert 'Exactly 0 in the whole run: loss_idle' in told(tmp_path)


def test_a_resumed_run_is_not_judged_again():
    found = dict(loss_a='idle')
    terms = IdleTerms(at_work=['loss_a'])
    steps = [terms.add(found, 1) for _ in range(3 * PATIENCE)]
    assert all(not lost for lost, _ in steps)
    assert [i for i, (_, quiet) in enumerate(steps) if quiet] == [PATIENCE - 1]


def test_the_ranks_judge_together(monkeypatch):
    """A rank without objects says nothing; one at work is enough."""
    other = []

    def reduce(counts):
        counts += torch.tensor(other.pop(0), dtype=torch.float32)

    monkeypatch.setattr('mmkd.algorithms.idle_terms.all_reduce', reduce)
    works, idle, nothing = [[1, 0, 0]], [[0, 1, 0]], [[0, 0, 0]]
    terms, other[:] = IdleTerms(), [idle] * PATIENCE
    lost = [terms.add(dict(loss_a='idle'), 0)[0] for _ in range(PATIENCE)]
    assert lost == [[]] * (PATIENCE - 1) + [['loss_a']]
    terms, other[:] = IdleTerms(), [nothing] * 9 + [works]
    assert not any(terms.add(dict(loss_a='idle'), 1)[0] for _ in range(10))
    assert terms.add(dict(loss_a='idle'), 1) == ([], []) and not other, 'no more is asked'


@pytest.mark.parametrize('accumulated', [1, 12])
def test_a_student_that_starts_as_its_teacher(tmp_path, accumulated):
    """To learn new data without forgetting: until its first step it says what its teacher says."""
    detector = small('retinanet')
    detector.backbone.norm_eval = True
    weights = MODELS.build(copy.deepcopy(detector)).state_dict()
    torch.save(dict(state_dict=weights), tmp_path / 'first.pth')
    config = pair(detector, detector, dict(type='L2Loss'), 'neck', FEATURES, data_idx=0)
    config.teacher_ckpt = config.student_ckpt = str(tmp_path / 'first.pth')
    images = [raw_batch(1, seed=seed) for seed in range(11)]
    wrapper = dict(optimizer=dict(type='SGD', lr=0.001), accumulative_counts=accumulated)
    model = MODELS.build(config)
    section = Section('Losses')
    check_losses(section, model, take_step(model, images[0]))
    assert not section.findings
    runner = tiny_runner(model, images, tmp_path / 'run', optim_wrapper=wrapper)
    runner.register_hook(PairReportHook())
    runner.train()
    assert runner.iter == 11


def test_a_frozen_part_that_is_the_teachers_cannot_learn(tmp_path):
    detector = small('retinanet')
    detector.backbone.update(norm_eval=True, frozen_stages=4)
    weights = MODELS.build(copy.deepcopy(detector)).state_dict()
    torch.save(dict(state_dict=weights), tmp_path / 'first.pth')
    config = pair(detector, detector, dict(type='L2Loss'), 'backbone', FEATURES, data_idx=0)
    config.teacher_ckpt = config.student_ckpt = str(tmp_path / 'first.pth')
    runner = tiny_runner(MODELS.build(config), [raw_batch(1)], tmp_path / 'run')
    runner.register_hook(PairReportHook())
    with pytest.raises(ValueError, match='loss_kd are exactly 0: nothing would be taught'):
        runner.train()


def test_gates_that_are_shut_are_no_fault():
    """A student that is better than its teacher at each prior, in the report too."""
    model = MODELS.build(tiny_pair())
    model.distiller.distill_losses.loss_bounded.margin = -1e9
    step = take_step(model, raw_batch())
    assert model.loss_watch.found == dict(loss_soft='works', loss_bounded='excused')
    section = Section('Losses')
    check_losses(section, model, step)
    assert not [f for f in section.findings if f.severity == 'error']
