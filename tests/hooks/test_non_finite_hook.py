"""No step on a loss or gradient that is not finite."""

from types import SimpleNamespace

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.dataset import DefaultSampler
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop
from torch.utils.data import BatchSampler

from mmkd.errors import NonFiniteError
from mmkd.hooks.non_finite_hook import NonFiniteHook, _Check, _images
from tests.tiny import raw_batch, tiny_pair, tiny_runner

pytestmark = pytest.mark.usefixtures('mmdet_scope')


def good(seed):
    return raw_batch(1, seed=seed)


def bad(seed):
    batch = good(seed)
    batch['inputs'][0] = batch['inputs'][0] * float('nan')
    return batch


class Snapshot(Hook):
    """Keeps the model's state before each iteration."""

    def __init__(self):
        self.states = []

    def before_train_iter(self, runner, *args, **kwargs):
        self.states.append({k: v.clone() for k, v in runner.model.state_dict().items()})


CHECKPOINT = dict(type='CheckpointHook', by_epoch=False, interval=1)


def train(work_dir, images, max_skips=0, model=None, **changes):
    torch.manual_seed(0)
    model = model or MODELS.build(tiny_pair())
    snapshot = Snapshot()
    hooks = [dict(type='NonFiniteHook', max_skips=max_skips), snapshot]
    changes.setdefault('default_hooks', dict(checkpoint=CHECKPOINT))
    runner = tiny_runner(model, images, work_dir, custom_hooks=hooks, **changes)
    runner.snapshot = snapshot
    runner.train()
    return runner


def assert_equal(state, expected):
    assert state.keys() == expected.keys()
    for key, value in state.items():
        assert torch.equal(value, expected[key]), key


def test_stops_with_the_state_before_on_disk(tmp_path):
    torch.manual_seed(0)
    model = MODELS.build(tiny_pair())
    with pytest.raises(NonFiniteError) as error:
        train(tmp_path, [good(0), bad(1)], model=model)
    message = str(error.value)
    for part in (
        'iteration 2 (epoch 1)',
        'student.loss_cls = nan',
        'distill.loss_soft = nan',
        'image1.jpg',
        f'{tmp_path}/iter_1.pth',
        'max_skips=10',
    ):
        assert part in message
    assert 'image0.jpg' not in message
    [path] = tmp_path.glob('*/before_non_finite.pth')
    assert str(path) in message
    saved = torch.load(path, weights_only=False)
    before = torch.load(tmp_path / 'iter_1.pth', weights_only=False)
    assert saved['meta']['iter'] == 1 and saved['optimizer']['state']
    assert_equal(saved['state_dict'], before['state_dict'])  # BN statistics too
    assert_equal(model.state_dict(), before['state_dict'])
    assert (tmp_path / 'last_checkpoint').read_text() == f'{tmp_path}/iter_1.pth'


def test_a_skipped_batch_leaves_no_trace(tmp_path):
    with_bad = train(tmp_path / 'a', [good(0), bad(1), good(2)], max_skips=1)
    without = train(tmp_path / 'b', [good(0), good(2)])
    assert with_bad.iter == 3
    assert_equal(with_bad.model.state_dict(), without.model.state_dict())


def test_a_skipped_batch_of_an_accumulated_step_is_made_up_for(tmp_path):
    optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.01), accumulative_counts=2)
    with_bad, without = (
        train(tmp_path / name, images, max_skips=1, optim_wrapper=optim_wrapper)
        for name, images in (
            ('a', [good(0), bad(1), good(2), good(3)]),
            ('b', [good(0), good(2), good(3), good(4)]),
        )
    )
    # after the first full step, before the last batch
    assert_equal(with_bad.snapshot.states[3], without.snapshot.states[2])
    assert with_bad.optim_wrapper.inner_count == 3


def test_the_cap_stops(tmp_path):
    with pytest.raises(NonFiniteError, match=r'iteration 3 .*image2\.jpg'):
        train(tmp_path, [good(0), bad(1), bad(2)], max_skips=1)


def test_a_gradient_that_is_not_finite_stops_and_is_skipped(tmp_path, monkeypatch):
    def build():
        torch.manual_seed(0)
        model = MODELS.build(tiny_pair())
        loss, bias, steps = model.loss, model.student.bbox_head.cls_convs[0][0].bias, []

        def with_root_of_zero(*args, **kwargs):
            steps.append(1)
            terms = loss(*args, **kwargs)
            if len(steps) == 2:  # sqrt(0) is 0, its derivative infinite
                terms['student.loss_root'] = (bias.sum() * 0).sqrt()
            return terms

        monkeypatch.setattr(model, 'loss', with_root_of_zero)
        return model

    images = [good(0), good(1), good(2)]
    named = r'gradient of 1 parameters \(architecture.bbox_head.cls_convs.0.0.bias'
    with pytest.raises(NonFiniteError, match=named):
        train(tmp_path / 'a', images, model=build())
    skipped = train(tmp_path / 'b', images, model=build(), max_skips=1)
    without = train(tmp_path / 'c', [images[0], images[2]])
    assert_equal(skipped.model.state_dict(), without.model.state_dict())


def test_gradients_in_float16_are_left_to_the_loss_scaler():
    model = torch.nn.Linear(1, 1)
    model.weight.grad = torch.full((1, 1), float('inf'))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    check = _Check(model, optimizer, waits=True)
    with pytest.raises(NonFiniteError, match='weight'):
        check.gradients()
    model.weight.grad = torch.full((1, 1), float('inf'))
    optimizer.found_inf = torch.ones(1)  # as torch's GradScaler tells a fused optimizer
    check.gradients()


@pytest.mark.parametrize('epoch', [0, 3])
def test_images_of_a_batch_without_paths_come_from_the_sampler(epoch):
    """MMYOLO's fast collate drops the paths."""

    class Images(list):
        def get_data_info(self, index):
            return dict(img_path=f'{self[index]}.jpg')

    dataset = Images('abcdefg')
    sampler = DefaultSampler(dataset, shuffle=True, seed=1)
    sampler.set_epoch(epoch)
    loader = SimpleNamespace(
        dataset=dataset, sampler=sampler, batch_sampler=BatchSampler(sampler, 2, False)
    )
    loop = EpochBasedTrainLoop.__new__(EpochBasedTrainLoop)
    runner = SimpleNamespace(train_dataloader=loader, train_loop=loop)
    drawn = [dataset[i] for i in sampler]
    fast = dict(data_samples=dict(bboxes_labels=torch.zeros(0, 6)))
    assert _images(runner, 1, fast).startswith(f'{drawn[2]}.jpg, {drawn[3]}.jpg (and')
    runner.train_loop = None
    assert _images(runner, 1, fast) == 'a batch without paths, number 1'


def test_max_skips_below_0_is_refused():
    with pytest.raises(ValueError, match='got -1'):
        NonFiniteHook(max_skips=-1)


@pytest.mark.parametrize(
    ('wrapper', 'told'), [('OptimWrapper', False), ('CpuAmpOptimWrapper', True)]
)
def test_mixed_precision_is_named_as_a_cause(tmp_path, wrapper, told):
    """Of small maps torch's bfloat16 convolutions on a CPU may give infinite gradients."""
    settings = dict(type=wrapper, optimizer=dict(type='SGD', lr=0.01))
    with pytest.raises(NonFiniteError) as error:
        train(tmp_path, [bad(0)], optim_wrapper=settings)
    assert ('without --amp' in str(error.value)) is told
