import pytest
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from mmkd.losses.functional import cell_sum as module
from mmkd.losses.functional.cell_sum import cell_sum


def naive(s, t, w, kind, tau):
    if kind == 'l2':
        distance = (s - t) ** 2
    elif kind == 'l2_sigmoid':
        distance = (s.sigmoid() - t.sigmoid()) ** 2
    elif kind == 'kl':
        prob = F.softmax(t / tau, 2)
        distance = prob * (prob.log() - F.log_softmax(s / tau, 2)) * tau**2
    elif kind == 'bce_raw':
        distance = F.binary_cross_entropy_with_logits(s, t, reduction='none')
    else:
        target = (t / tau).sigmoid()
        distance = F.binary_cross_entropy_with_logits(s / tau, target, reduction='none') * tau**2
    return (distance * w.unsqueeze(2)).sum()


@pytest.mark.parametrize('block', [1, 40, 100, 10**6])
@pytest.mark.parametrize('kind', ['l2', 'l2_sigmoid', 'kl', 'bce', 'bce_raw'])
def test_value_and_gradient_do_not_depend_on_the_blocks(monkeypatch, kind, block):
    monkeypatch.setitem(module._BLOCK, 'cpu', block)
    generator = torch.Generator().manual_seed(0)
    s, t = torch.randn(2, 3, 2, 4, 3, 5, generator=generator, dtype=torch.float64)
    w = torch.rand(3, 2, 3, 5, generator=generator, dtype=torch.float64)
    ours, theirs = s.clone().requires_grad_(), s.clone().requires_grad_()
    value = cell_sum(ours, t, w, kind, 2.0)
    expected = naive(theirs, t, w, kind, 2.0)
    assert value.item() == pytest.approx(expected.item(), rel=1e-12)
    (3 * value).backward()
    (3 * expected).backward()
    assert torch.allclose(ours.grad, theirs.grad, rtol=1e-10, atol=1e-14)


def test_backward_may_run_twice():
    s = torch.randn(1, 1, 2, 2, 2, requires_grad=True)
    value = cell_sum(s, torch.zeros_like(s), torch.ones(1, 1, 2, 2), 'l2')
    value.backward(retain_graph=True)
    once = s.grad.clone()
    value.backward()
    assert torch.equal(s.grad, 2 * once)


def test_an_empty_batch():
    s = torch.zeros(0, 1, 2, 2, 2, requires_grad=True)
    cell_sum(s, torch.zeros_like(s), torch.ones(0, 1, 2, 2), 'l2').backward()
    assert s.grad.shape == s.shape


class _Sizes(TorchDispatchMode):
    """The sizes of the tensors that are made, views aside."""

    def __init__(self):
        super().__init__()
        self.numels = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        inputs = {a.untyped_storage().data_ptr() for a in args if isinstance(a, torch.Tensor)}
        if isinstance(out, torch.Tensor) and out.untyped_storage().data_ptr() not in inputs:
            self.numels.append(out.numel())
        return out


@pytest.mark.parametrize('kind', ['l2', 'l2_sigmoid', 'kl', 'bce', 'bce_raw'])
def test_no_tensor_is_as_large_as_a_map_but_the_gradient(monkeypatch, kind):
    monkeypatch.setitem(module._BLOCK, 'cpu', 100)
    s = torch.randn(8, 3, 10, 4, 4, requires_grad=True)  # 3840 elements, 160 of an anchor
    t, w = torch.randn(8, 3, 10, 4, 4), torch.rand(8, 3, 4, 4)
    with _Sizes() as forward:
        value = cell_sum(s, t, w, kind, 2.0)
    assert sorted(forward.numels)[-2:] == [160, s.numel()]
    with _Sizes() as backward:
        value.backward()
    assert max(backward.numels, default=0) <= 1


@pytest.mark.parametrize('kind', ['l2', 'l2_sigmoid', 'kl', 'bce', 'bce_raw'])
def test_without_a_gradient_no_map_is_made(monkeypatch, kind):
    monkeypatch.setitem(module._BLOCK, 'cpu', 100)
    (s, t), w = torch.randn(2, 8, 3, 10, 4, 4), torch.rand(8, 3, 4, 4)
    with _Sizes() as forward, torch.no_grad():
        cell_sum(s, t, w, kind, 2.0)
    assert max(forward.numels) == 160


@pytest.mark.parametrize('kind', ['l2', 'l2_sigmoid', 'kl', 'bce', 'bce_raw'])
@pytest.mark.parametrize('retain', [False, True])
def test_the_gradient_may_take_the_place_of_the_teacher(monkeypatch, kind, retain):
    monkeypatch.setitem(module._BLOCK, 'cpu', 100)
    s, t, w = torch.randn(4, 3, 10, 4, 4), torch.randn(4, 3, 10, 4, 4), torch.rand(4, 3, 4, 4)
    own, other = s.clone().requires_grad_(), s.clone().requires_grad_()
    expected = cell_sum(other, t, w, kind, 2.0)
    (3 * expected).backward()
    with _Sizes() as made:
        value = cell_sum(own, free := t.clone(), w, kind, 2.0, overwrite=True)
    assert torch.equal(value, expected) and not torch.equal(free, t)
    assert sorted(made.numels)[-2:] == [160, s.numel()]  # the clone is ours
    if retain:  # as where gradients are balanced
        [first] = torch.autograd.grad(3 * value, own, retain_graph=True)
        torch.testing.assert_close(first, other.grad)
    (3 * value).backward()
    torch.testing.assert_close(own.grad, other.grad)


@pytest.mark.parametrize(
    'change', [lambda t: t.double(), lambda t: t.transpose(3, 4), lambda t: t.requires_grad_()]
)
def test_a_teacher_of_another_kind_is_left_alone(change):
    s, w = torch.randn(2, 3, 5, 4, 4, requires_grad=True), torch.rand(2, 3, 4, 4)
    t = change(torch.randn(2, 3, 5, 4, 4))
    before = t.detach().clone()
    cell_sum(s, t, w, 'l2', overwrite=True).backward()
    assert torch.equal(t, before) and s.grad.any()
