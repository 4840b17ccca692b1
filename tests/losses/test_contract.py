"""The one contract that every loss of mmkd keeps."""

import importlib
import re

import pytest
import torch
from mmrazor.registry import MODELS

from mmkd import losses
from tests.losses import contract


def case_of(name):
    """A loss's case lies in the test named after it; a loss without one fails here."""
    snake = re.sub(r'(?<!^)(?=[A-Z])', '_', name).lower()
    return importlib.import_module(f'tests.losses.test_{snake}').CASE


CASES = {name: case_of(name) for name in losses.__all__}

each_loss = pytest.mark.parametrize('case', CASES.values(), ids=CASES)


@pytest.mark.parametrize('name', losses.__all__)
def test_is_registered_and_documented(name):
    cls = getattr(losses, name)
    assert MODELS.get(name) is cls
    for section in ('Source:', 'Differs:', 'Units:', 'Args:', 'Raises:', 'Example:'):
        assert section in cls.__doc__


@each_loss
def test_returns_one_finite_scalar_and_logs(case):
    loss = case.build()
    value = loss(**case.inputs(0))
    assert value.shape == () and value.isfinite()
    assert set(loss.logs) == set(case.log_keys)
    assert set(loss.statistics) == set(case.log_keys), 'a loss explains what it logs'
    assert all(statistic.meaning for statistic in loss.statistics.values())
    idle_without = getattr(loss, 'idle_without', None)
    assert idle_without is None or loss.statistics[idle_without].remedy
    for key, log in loss.logs.items():
        assert 'loss' not in key
        assert log.shape == () and log.isfinite() and not log.requires_grad


@each_loss
def test_zero_where_student_equals_teacher(case):
    if not case.zero_at_equal:
        pytest.skip('its docstring says why')
    inputs = case.inputs(0)
    inputs['preds_S'] = contract.apply(inputs['preds_T'], torch.clone)
    assert case.build()(**inputs).item() == pytest.approx(0, abs=1e-6)


@each_loss
@pytest.mark.parametrize('seed', range(5))
def test_is_not_negative(case, seed):
    assert case.build(**case.non_negative)(**case.inputs(seed)) >= 0


@each_loss
def test_gradient_to_student_and_none_to_teacher(case):
    inputs = contract.with_grad(case.inputs(0))
    case.build()(**inputs).backward()
    student = [t.grad for t in contract.tensors(inputs['preds_S'])]
    assert all(g is not None and g.isfinite().all() for g in student)
    assert any(g.abs().sum() > 0 for g in student)
    assert all(t.grad is None for t in contract.tensors(inputs['preds_T']))


@each_loss
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_is_finite_and_close(case, dtype):
    def cast(t):
        return t.to(dtype)

    inputs = case.inputs(0)
    halves = inputs | {
        key: contract.apply(inputs[key], contract.floats(cast)) for key in ('preds_S', 'preds_T')
    }
    halves = contract.with_grad(halves)
    value = case.build()(**halves)
    value.backward()
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(case.build()(**inputs).item(), rel=0.1)
    assert all(t.grad.isfinite().all() for t in contract.tensors(halves['preds_S']))


@each_loss
def test_student_and_teacher_may_differ_in_precision(case):
    inputs = case.inputs(0)
    mixed = inputs | {'preds_T': contract.apply(inputs['preds_T'], torch.Tensor.bfloat16)}
    assert case.build()(**mixed).item() == pytest.approx(case.build()(**inputs).item(), rel=0.1)


@each_loss
def test_works_under_autocast(case):
    inputs = contract.with_grad(case.inputs(0))
    with torch.autocast('cpu', dtype=torch.bfloat16):
        value = case.build()(**inputs)
    value.backward()
    assert value.item() == pytest.approx(case.build()(**case.inputs(0)).item(), rel=1e-4)


@each_loss
def test_order_of_images_changes_nothing(case):
    inputs = case.inputs(0)
    flipped = contract.apply(inputs, lambda t: t.flip(0) if t.dim() else t)
    value = case.build()(**inputs).item()
    assert case.build()(**flipped).item() == pytest.approx(value, rel=1e-5)


@each_loss
def test_scales_as_units_say(case):
    inputs = case.inputs(0)
    value = case.build()(**inputs).item()
    repeated = case.build()(**contract.repeat(inputs)).item()
    assert repeated == pytest.approx(case.doubled * value, rel=1e-5)
    weight = case.build().loss_weight
    heavier = case.build(loss_weight=3 * weight)(**inputs).item()
    assert heavier == pytest.approx(3 * value, rel=1e-5)


@each_loss
def test_no_objects_give_zero_with_a_graph(case):
    if case.empty is None:
        pytest.skip('the loss knows no objects')
    inputs = contract.with_grad(case.empty())
    value = case.build()(**inputs)
    assert value.item() == 0 and value.requires_grad
    value.backward()
    grads = [t.grad for t in contract.tensors(inputs['preds_S'])]
    assert all(g is not None and not g.any() for g in grads)


@each_loss
def test_inputs_are_left_as_they_were(case):
    inputs = case.inputs(0)
    before = contract.apply(inputs, torch.clone)
    case.build()(**inputs)
    for now, then in zip(contract.tensors(inputs), contract.tensors(before), strict=True):
        assert torch.equal(now, then)


@pytest.mark.parametrize(
    ('case', 'fault', 'match'),
    [(case, *fault) for case in CASES.values() for fault in case.faults],
    ids=[f'{name}-{fault[0].__name__}' for name, case in CASES.items() for fault in case.faults],
)
def test_wrong_input_is_refused(case, fault, match):
    with pytest.raises(ValueError, match=match):
        case.build()(**fault(case.inputs(0)))
