"""What a training waits for its device for: once in a step, and where the log is printed."""

from collections import Counter

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.hooks import Hook

from mmkd.hooks import pair_report_hook
from mmkd.hooks.non_finite_hook import NonFiniteHook
from mmkd.hooks.pair_report_hook import PairReportHook
from mmkd.runner.exact_runner import ExactRunner
from tests.tiny import raw_batch, tiny_pair, tiny_runner
from tests.waits import waits

pytestmark = pytest.mark.usefixtures('mmdet_scope')


class Count(Hook):
    """Counts from the first hook before some iterations to the last one after them."""

    priority = 'HIGHEST'

    def __init__(self, *iterations):
        self.found = {iteration: Counter() for iteration in iterations}

    def before_train_iter(self, runner, *args, **kwargs):
        if runner.iter in self.found:
            self.counting = waits()
            self.counts = self.counting.__enter__()


class Stop(Hook):
    priority = 'LOWEST'

    def __init__(self, count):
        self.count = count

    def after_train_iter(self, runner, *args, **kwargs):
        if runner.iter in self.count.found:
            self.count.counting.__exit__(None, None, None)
            self.count.found[runner.iter] = self.count.counts


def train(work_dir, count, wrapper):
    """5 steps of a pair whose term is at work; the log is printed in the last one."""
    config = tiny_pair()
    for part in (
        config['distiller']['distill_losses'],
        config['distiller']['loss_forward_mappings'],
    ):
        part.pop('loss_bounded')
    torch.manual_seed(0)
    wrapper = {'optimizer': dict(type='AdamW', lr=0.001, fused=True), **wrapper}
    runner = tiny_runner(
        MODELS.build(config),
        [raw_batch(1, seed=seed) for seed in range(5)],
        work_dir,
        runner=ExactRunner,
        optim_wrapper=dict(clip_grad=dict(max_norm=1.0), **wrapper),
        default_hooks=dict(logger=dict(type='LoggerHook', interval=4)),
    )
    for hook in (NonFiniteHook(), PairReportHook(), count, Stop(count)):
        runner.register_hook(hook)
    runner.train()
    return runner


def of_the_run(found):
    """Those that are not of the model itself, nor of sizes that lie on the processor."""
    outside = (
        *('mmdet.', 'mmengine.optimizer_wrapper.backward', 'mmengine.utils.stack_batch'),
        'mmkd.weighted_soft_cls.',  # the mined rows: their number is a size
    )
    return {place: n for place, n in found.items() if not place.startswith(outside)}


@pytest.mark.parametrize('wrapper', [{}, dict(accumulative_counts=2)])
def test_a_step_waits_once(tmp_path, monkeypatch, wrapper):
    monkeypatch.setattr(pair_report_hook, 'PATIENCE', 5)
    count = Count(2, 3)
    runner = train(tmp_path, count, wrapper)
    first, printed = (of_the_run(found) for found in count.found.values())
    assert first == {'mmkd.non_finite_hook._read': 1}
    # In the fourth step the log is printed, and all that has come since is read at once. Of an
    # accumulated step the losses are looked at before the backward.
    looked = 2 if wrapper else 1
    assert printed == {'mmkd.non_finite_hook._read': looked, 'mmkd.logging.numbers': 1}
    assert all(p.grad is None for p in runner.model.parameters()), 'zeros would cost a write'
    losses, norms = (runner.message_hub.get_scalar(f'train/{k}') for k in ('loss', 'grad_norm'))
    assert len(losses.data[0]) == 5 and len(norms.data[0]) == (3 if wrapper else 5)
