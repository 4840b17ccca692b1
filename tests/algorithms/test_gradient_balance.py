"""Gradient-balanced weights: the share that is asked for is the share that is had."""

import copy
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmdet.registry import MODELS

from mmkd.algorithms.gradient_balance import GradientBalance, flat_gradient
from tests.tiny import raw_batch, tiny_pair, tiny_runner, tiny_ssd_with_adapters

pytestmark = pytest.mark.usefixtures('mmdet_scope')


def build(config=None, **balance):
    torch.manual_seed(0)
    config = copy.deepcopy(config or tiny_pair())
    # An untrained teacher bounds no box: let the term count until the student is far better.
    config['distiller']['distill_losses']['loss_bounded']['margin'] = 1e12
    if balance:
        config['balance'] = balance
    return MODELS.build(config).train()


def terms_of(model, seed=0):
    """One forward: the back-propagated terms and what is logged."""
    data = model.data_preprocessor(raw_batch(seed=seed), training=True)
    losses = model(**data, mode='loss')
    return {key: sum(v) if isinstance(v, list) else v for key, v in losses.items()}


def shares_of(model, terms):
    """Gradient norms of the terms over that of the task, taken one parameter at a time."""
    weights = [p for p in model.student.parameters() if p.requires_grad]

    def norm(value):
        if not value.requires_grad:
            return 0.0
        found = torch.autograd.grad(value, weights, retain_graph=True, allow_unused=True)
        return math.sqrt(sum(float((g.double() ** 2).sum()) for g in found if g is not None))

    task = norm(sum(v for k, v in terms.items() if k.startswith('student.') and 'loss' in k))
    names = [f'distill.{name}' for name in model.balance.shares]
    return {name.removeprefix('distill.'): norm(terms[name]) / task for name in names}


def plane(*slopes):
    """Parameters, and for each slope a loss whose gradient norm it is."""
    weights = torch.zeros(4, requires_grad=True)
    direction = torch.tensor([0.5, 0.5, 0.5, 0.5])
    return [weights], [slope * (weights * direction).sum() for slope in slopes]


@pytest.mark.parametrize('shares', [0.3, dict(loss_soft=0.3, loss_bounded=0.3)])
@pytest.mark.parametrize('loss_weight', [1e-3, 1.0, 50.0])
def test_the_share_is_reached_whatever_the_loss_weight(shares, loss_weight):
    config = tiny_pair()
    config['distiller']['distill_losses']['loss_soft']['loss_weight'] = loss_weight
    model = build(config, shares=shares)
    found = shares_of(model, terms_of(model))
    assert found == pytest.approx(dict(loss_soft=0.3, loss_bounded=0.3), rel=1e-3)


def test_with_a_trained_adapter():
    model = build(tiny_ssd_with_adapters(), shares=dict(loss_imitation=0.7))
    plain = build(tiny_ssd_with_adapters())
    terms, own = terms_of(model), terms_of(plain)
    assert shares_of(model, terms) == pytest.approx(dict(loss_imitation=0.7), rel=1e-3)
    torch.testing.assert_close(terms['distill.loss_soft'], own['distill.loss_soft'])
    torch.testing.assert_close(
        terms['distill.loss_imitation'],
        terms['distill.imitation_balance'] * own['distill.loss_imitation'],
    )


def test_a_schedule_comes_on_top():
    model = build(shares=0.4)
    model.distill_factors = dict(loss_soft=0.25, loss_bounded=0.0)
    terms = terms_of(model)
    assert shares_of(model, terms) == pytest.approx(dict(loss_soft=0.1, loss_bounded=0), rel=1e-3)
    assert terms['distill.loss_bounded'] == 0
    model.distill_factors = {}
    assert shares_of(model, terms_of(model))['loss_bounded'] == pytest.approx(0.4, rel=1e-3)


def test_nothing_else_changes():
    """The student's own losses, their gradient, and random numbers are as without it."""
    model, plain = build(shares=0.5), build()
    terms, own = terms_of(model), terms_of(plain)
    for key in own:
        if key.startswith('student.'):
            assert torch.equal(terms[key], own[key])
    assert [p.grad for p in model.parameters() if p.grad is not None] == []


@given(
    slopes=st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=12),
    share=st.floats(0.01, 10),
    momentum=st.floats(0, 0.9),
    interval=st.integers(1, 6),
)
def test_norms_are_smoothed_and_measured_at_the_interval(slopes, share, momentum, interval):
    balance = GradientBalance(['loss_a'], share, interval, momentum, max_factor=1e9)
    smooth = None
    for step, slope in enumerate(slopes):
        weights, (task, term) = plane(2.0, slope)
        if step % interval == 0 or (step < interval and step in (1, 2, 4)):
            smooth = slope if smooth is None else smooth**momentum * slope ** (1 - momentum)
        out = balance(dict(loss_x=task), dict(loss_a=term), {}, weights)
        expected = share * 2.0 / smooth * slope
        assert flat_gradient(out['loss_a'], weights).norm().item() == pytest.approx(expected, 1e-4)
    assert balance.logs('loss_a')['balance'] == pytest.approx(share * 2.0 / smooth, 1e-4)


@pytest.mark.parametrize('slope', [0.0, float('nan'), float('inf')])
def test_what_is_not_finite_or_without_gradient_is_not_counted(slope):
    balance = GradientBalance(['loss_a'], 0.5, interval=1)
    weights, (task, bad, good) = plane(2.0, slope, 4.0)
    for _ in range(2):
        balance(dict(loss_x=task), dict(loss_a=bad), {}, weights)
        assert balance.factor('loss_a') == 0
    balance(dict(loss_x=task), dict(loss_a=good), {}, weights)
    assert balance.factor('loss_a') == pytest.approx(0.25)
    balance(dict(loss_x=task), dict(loss_a=bad), {}, weights)
    assert balance.factor('loss_a') == pytest.approx(0.25)
    balance(dict(loss_x=bad), dict(loss_a=good), {}, weights)
    assert balance.factor('loss_a') == pytest.approx(0.25)


def test_the_factor_is_bounded():
    balance = GradientBalance(['loss_a'], 1.0, max_factor=8)
    weights, (task, faint) = plane(1.0, 1e-5)
    balance(dict(loss_x=task), dict(loss_a=faint), {}, weights)
    assert balance.factor('loss_a') == 8


def test_gradients_below_half_precisions_least_are_measured():
    balance = GradientBalance(['loss_a'], 1.0)
    weights = torch.zeros(1, requires_grad=True)
    half = weights.half() * 1e-4
    terms = (half * 1e-4).sum(), (half * 2e-4).sum()  # gradients of 1e-8 and 2e-8
    balance(dict(loss_x=terms[0]), dict(loss_a=terms[1]), {}, [weights])
    assert balance.factor('loss_a') == pytest.approx(0.5, rel=0.05)


def test_not_measured_in_evaluation():
    balance = GradientBalance(['loss_a'], 1.0).eval()
    weights, (task, term) = plane(1.0, 3.0)
    balance(dict(loss_x=task), dict(loss_a=term), {}, weights)
    assert balance.step == 0 and max(balance.norms.values()) < 0


def test_a_resumed_training_goes_on_bit_by_bit(tmp_path):
    images = [raw_batch(1, seed=seed) for seed in range(3)]

    def trained(folder, epochs, **changes):
        model = build(shares=0.5, interval=2)
        loop = dict(by_epoch=True, max_epochs=epochs)
        tiny_runner(model, images, folder, train_cfg=loop, **changes).train()
        return model.state_dict()

    whole = trained(tmp_path / 'whole', 2)
    trained(tmp_path / 'half', 1)
    resume = dict(load_from=f'{tmp_path}/half/epoch_1.pth', resume=True)
    parts = trained(tmp_path / 'half', 2, **resume)
    step, *norms = whole['balance._extra_state'].tolist()
    assert step == 6 and min(norms) > 0
    assert all(torch.equal(value, parts[key]) for key, value in whole.items())


@pytest.mark.parametrize(
    'balance, match',
    [
        (dict(shares=dict(loss_sof=0.5)), r'loss_soft, loss_bounded.*got loss_sof'),
        (dict(shares=0), 'above 0.*loss_weight=0'),
        (dict(shares=math.inf), 'finite shares'),
        (dict(shares='half'), 'finite shares'),
        (dict(shares=0.5, max_factor=-1), 'max_factor above 0'),
        (dict(shares=0.5, interval=0), 'interval >= 1'),
        (dict(shares=0.5, momentum=1), 'momentum < 1'),
    ],
)
def test_bad_arguments_are_refused_before_training(balance, match):
    with pytest.raises(ValueError, match=match):
        build(**balance)


def test_without_losses_of_the_student_there_is_nothing_to_measure_by():
    with pytest.raises(ValueError, match='calculate_student_loss=False'):
        build(tiny_pair(calculate_student_loss=False), shares=0.5)


def test_a_checkpoint_of_other_terms_is_refused():
    state = GradientBalance(['loss_a', 'loss_b'], 1.0).state_dict()
    with pytest.raises(ValueError, match=r'as many terms .*names loss_a'):
        GradientBalance(['loss_a'], 1.0).load_state_dict(state)
