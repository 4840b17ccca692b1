"""Convolutions with fewer multiplications: what they give is the same up to rounding."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from mmkd.teachers import winograd_conv
from mmkd.teachers.winograd_conv import (
    WinogradConv2d,
    convolve,
    kernels,
    weight_gradient,
)

LAST = torch.channels_last


def close(found: torch.Tensor, exact: torch.Tensor) -> bool:
    """Within 4e-6 of the largest value: float32's own products come to 1e-6."""
    return bool((found - exact).abs().max() <= 4e-6 * exact.abs().max())


@given(
    st.integers(1, 3),
    st.integers(1, 5),
    st.integers(1, 5),
    st.tuples(st.integers(1, 14), st.integers(1, 14)),
    st.integers(0, 2),
    st.booleans(),
    st.integers(1, 20),
)
def test_the_maps_and_the_gradients(images, channels, outputs, size, padding, bias, tiles):
    """Against torch's in float64, with any blocks of tiles."""
    torch.manual_seed(0)
    inputs = torch.randn(images, channels, *(max(side, 3 - 2 * padding) for side in size))
    weight, shift = torch.randn(outputs, channels, 3, 3), torch.randn(outputs) if bias else None
    exact = [value if value is None else value.double() for value in (inputs, weight, shift)]
    for value in exact[:2]:
        value.requires_grad_()
    maps = torch.conv2d(*exact, 1, padding)
    grad = torch.randn_like(maps).float()
    gradients = torch.autograd.grad(maps, exact[:2], grad.double())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(winograd_conv, '_TILES', tiles)
        inputs, grad = (value.contiguous(memory_format=LAST) for value in (inputs, grad))
        made = kernels(weight)
        found = convolve(inputs, made, shift, padding)
        back = convolve(grad, made, None, 2 - padding, back=True)
        of_weight = weight_gradient(inputs, grad, padding)
    assert found.is_contiguous(memory_format=LAST) and back.is_contiguous(memory_format=LAST)
    for own, value in zip((found, back, of_weight), (maps, *gradients), strict=True):
        assert own.shape == value.shape and close(own, value)


def convolution(trained=False, **changes):
    torch.manual_seed(0)
    arguments = dict(in_channels=128, out_channels=256, kernel_size=3, padding=1)
    return nn.Conv2d(**{**arguments, **changes}).requires_grad_(trained)


def other_way(conv):
    conv = copy.deepcopy(conv)
    conv.__class__ = WinogradConv2d
    return conv.to(memory_format=LAST)


@pytest.fixture
def ways(monkeypatch):
    """How often convolutions went this way."""
    calls = []
    monkeypatch.setattr(
        winograd_conv, 'convolve', lambda *args: calls.append(args) or convolve(*args)
    )
    return calls


@torch.no_grad()
@pytest.mark.parametrize('bias', [True, False])
def test_a_layer_of_many_channels(ways, bias):
    """Seen by a recorder as ever; other weights are seen, and weights are kept as they were."""
    plain = convolution(bias=bias, out_channels=258)
    own, maps = other_way(plain), torch.randn(2, 128, 20, 20)
    seen = []
    own.register_forward_hook(lambda _, args, found: seen.append(found))
    assert close(own(maps.contiguous(memory_format=LAST)), plain.double()(maps.double()))
    assert own.state_dict().keys() == plain.state_dict().keys() and len(seen) == len(ways) == 1
    made = own._kernels[1]
    own(maps.contiguous(memory_format=LAST))
    assert own._kernels[1] is made
    own.weight.mul_(2)
    assert not torch.equal(own(maps.contiguous(memory_format=LAST)), seen[0])
    own.load_state_dict(plain.float().state_dict())
    assert torch.equal(own(maps.contiguous(memory_format=LAST)), seen[0]) and len(ways) == 4


def step(conv, inputs):
    inputs = inputs.clone(memory_format=torch.preserve_format).requires_grad_()
    found = conv(inputs)
    found.square().sum().backward()
    return found, [inputs.grad, *(p.grad for p in conv.parameters() if p.requires_grad)]


@pytest.mark.parametrize('bias', [True, False])
@pytest.mark.parametrize('frozen', [True, False])
def test_a_step(ways, bias, frozen):
    plain = convolution(trained=True, bias=bias, out_channels=259)
    plain.weight.requires_grad_(not frozen)
    conv, inputs = other_way(plain), torch.randn(2, 128, 21, 20)
    own, gradients = step(conv, inputs.contiguous(memory_format=LAST))
    exact, expected = step(plain.double(), inputs.double())
    assert len(ways) == 2 and (conv._kernels is None) == (not frozen)
    for found, value in zip([own, *gradients], [exact, *expected], strict=True):
        assert close(found, value)


@pytest.mark.parametrize('case', ['usual', 'small', 'bfloat16', 'autocast', 'one image'])
def test_elsewhere_it_is_conv2d(ways, case):
    conv = other_way(convolution()).to(torch.bfloat16 if case == 'bfloat16' else torch.float32)
    side = 28 if case == 'small' else 29
    inputs = torch.randn(1, 128, side, side, dtype=conv.weight.dtype)
    if case not in ('usual', 'one image'):
        inputs = inputs.contiguous(memory_format=LAST)
    with torch.autocast('cpu', torch.bfloat16, enabled=case == 'autocast'):
        found = conv(inputs[0] if case == 'one image' else inputs)
    assert found.shape[-2:] == inputs.shape[-2:] and not ways


@pytest.mark.parametrize(
    'changes, suits',
    [
        ({}, True),
        (dict(padding=0, bias=False), True),
        (dict(padding=2, in_channels=256, out_channels=128), True),
        (dict(in_channels=127), False),
        (dict(out_channels=255), False),
        (dict(stride=2), False),
        (dict(kernel_size=1), False),
        (dict(kernel_size=(3, 1)), False),
        (dict(groups=2), False),
        (dict(dilation=2), False),
        (dict(padding=3), False),
        (dict(padding=(1, 0)), False),
        (dict(padding_mode='reflect'), False),
        (dict(padding='same'), False),
    ],
)
def test_which_convolutions(changes, suits):
    conv = convolution(**changes)
    assert WinogradConv2d.suits(conv) == suits
    conv.__class__ = type('Own', (nn.Conv2d,), {})
    assert not WinogradConv2d.suits(conv)
