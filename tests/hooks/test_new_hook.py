"""A new hook is one file, by the guide of CONTRIBUTING.md: found by name, resumed, not exported."""

import sys
from types import ModuleType

import pytest
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmrazor.registry import MODELS

from mmkd.algorithms import DetectionDistill
from mmkd.distributed.unwrapped import unwrapped
from mmkd.export.student_config import student_config
from mmkd.runner import ExactRunner
from tests.tiny import raw_batch, tiny_pair, tiny_runner


class StepCountHook(Hook):
    """Counts the steps of a pair, over all its runs."""

    steps = 0

    def after_train_iter(self, runner, *args, **kwargs):
        assert isinstance(unwrapped(runner.model), DetectionDistill)
        self.steps += 1

    def before_save_checkpoint(self, runner, checkpoint):
        checkpoint['steps'] = self.steps

    def after_load_checkpoint(self, runner, checkpoint):
        self.steps = checkpoint['steps']


@pytest.fixture
def hook():
    """The class, for a while one of a module of mmkd.hooks."""
    name = 'mmkd.hooks.step_count_hook'
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StepCountHook, '__module__', name)
        patch.setitem(sys.modules, name, ModuleType(name))
        HOOKS.register_module(module=StepCountHook)
        yield dict(type='StepCountHook')
        HOOKS._module_dict.pop('StepCountHook')


def test_a_resumed_run_ends_the_same(hook, tmp_path):
    def steps_after(epochs, **changes):
        runner = tiny_runner(
            MODELS.build(tiny_pair()),
            [raw_batch(1)],
            tmp_path,
            runner=ExactRunner,
            custom_hooks=[hook],
            train_cfg=dict(by_epoch=True, max_epochs=epochs),
            **changes,
        )
        runner.train()
        return next(h.steps for h in runner.hooks if isinstance(h, StepCountHook))

    assert steps_after(1) == 1
    assert steps_after(3, resume=True) == 3


def test_the_export_leaves_it_out(hook):
    own = dict(type='EMAHook')
    config = Config(dict(model=tiny_pair(), default_scope='mmdet', custom_hooks=[hook, own]))
    assert [h['type'] for h in student_config(config).custom_hooks] == ['EMAHook']
