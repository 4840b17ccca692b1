"""Strided convolutions with channels last: the same results, another way to one of them."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from mmkd.hooks import strided_conv
from mmkd.hooks.strided_conv import StridedConv2d, weight_gradient

LAST = torch.channels_last
pairs = st.tuples(st.integers(0, 3), st.integers(0, 3))


@given(
    st.integers(1, 3),
    st.tuples(st.integers(1, 5), st.integers(1, 5)),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    pairs,
    pairs,
    st.integers(1, 60),
)
def test_the_gradient_of_the_weights(images, size, stride, padding, more, rows):
    """Against autograd's in float64: any kernel, stride and padding, and blocks of few rows."""
    torch.manual_seed(0)
    side = [max(1, k + m - 2 * p) for k, m, p in zip(size, more, padding, strict=True)]
    inputs = torch.randn(images, 4, *side, dtype=torch.float64)
    weight = torch.randn(3, 4, *size, dtype=torch.float64, requires_grad=True)
    found = torch.conv2d(inputs, weight, None, stride, padding)
    grad = torch.randn_like(found)
    (expected,) = torch.autograd.grad(found, weight, grad)
    last = (value.contiguous(memory_format=LAST) for value in (inputs, grad))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(strided_conv, '_ROWS', rows)
        own = weight_gradient(*last, size, stride, padding)
    assert own.is_contiguous(memory_format=LAST)
    torch.testing.assert_close(own, expected)


def convolution(**changes):
    torch.manual_seed(0)
    return nn.Conv2d(
        **dict(dict(in_channels=64, out_channels=8, kernel_size=3, stride=2), **changes)
    )


def strided(conv):
    conv = copy.deepcopy(conv)
    conv.__class__ = StridedConv2d
    return conv.to(memory_format=LAST)


def step(conv, inputs):
    inputs = inputs.clone(memory_format=torch.preserve_format).requires_grad_()
    found = conv(inputs)
    found.square().sum().backward()
    return found, [inputs.grad, *(p.grad for p in conv.parameters() if p.requires_grad)]


@pytest.mark.parametrize('bias', [True, False])
@pytest.mark.parametrize('frozen', [True, False])
def test_a_step(bias, frozen):
    """Output and all gradients are those of ``Conv2d``, up to rounding."""
    plain = convolution(bias=bias, padding=1)
    plain.weight.requires_grad_(not frozen)
    inputs = torch.randn(2, 64, 76, 75)
    own, gradients = step(strided(plain), inputs.contiguous(memory_format=LAST))
    exact, expected = step(plain.double(), inputs.double())
    assert type(own.grad_fn).__name__ == (
        'ConvolutionBackward0' if frozen else '_ConvolutionBackward'
    )
    for found, value in zip([own, *gradients], [exact, *expected], strict=True):
        assert (found - value).abs().max() <= 4e-6 * value.abs().max()


@pytest.mark.parametrize('case', ['usual', 'small', 'bfloat16', 'autocast', 'no grad'])
def test_elsewhere_it_is_conv2d(case):
    conv = strided(convolution()).to(torch.bfloat16 if case == 'bfloat16' else torch.float32)
    side = 64 if case == 'small' else 76
    inputs = torch.randn(1, 64, side, side, dtype=conv.weight.dtype)
    if case != 'usual':
        inputs = inputs.contiguous(memory_format=LAST)
    with (
        torch.autocast('cpu', torch.bfloat16, enabled=case == 'autocast'),
        torch.set_grad_enabled(case != 'no grad'),
    ):
        found = conv(inputs)
    assert '_ConvolutionBackward' not in str(found.grad_fn)


@pytest.mark.parametrize(
    'changes, suits',
    [
        ({}, True),
        (dict(padding=1, kernel_size=(2, 3), stride=(2, 3)), True),
        (dict(in_channels=32), False),
        (dict(stride=1), False),
        (dict(stride=(1, 2)), False),
        (dict(kernel_size=1), False),
        (dict(groups=2), False),
        (dict(dilation=2), False),
        (dict(padding_mode='reflect', padding=1), False),
        (dict(padding='valid'), False),
    ],
)
def test_which_convolutions(changes, suits):
    conv = convolution(**changes)
    assert StridedConv2d.suits(conv) == suits
    conv.__class__ = type('Own', (nn.Conv2d,), {})
    assert not StridedConv2d.suits(conv)
