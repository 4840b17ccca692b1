"""The stand-in deformable and masked convolutions, through mmcv.ops, against plain loops."""

import math
import sys

import mmcv.ops
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from mmcv.ops.masked_conv import masked_conv2d

from mmkd.compat import mmcv_ops
from mmkd.compat.ops import deformable

pytestmark = pytest.mark.skipif(
    not isinstance(sys.modules['mmcv._ext'], mmcv_ops.MmcvExt), reason='mmcv has compiled ops'
)


def oracle_sample(image, y, x):
    """Bilinear; nothing beyond the rim."""
    height, width = len(image), len(image[0])
    if not (-1 < y < height and -1 < x < width):
        return 0.0
    top, left, total = math.floor(y), math.floor(x), 0.0
    for row, column in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
        if 0 <= row < height and 0 <= column < width:
            total += image[row][column] * (1 - abs(y - row)) * (1 - abs(x - column))
    return total


def oracle(input, offset, weight, mask, stride, padding, dilation, groups, deform_groups):
    batch, channels = input.shape[:2]
    out_channels, per_group, kernel_h, kernel_w = weight.shape
    out_h, out_w = offset.shape[-2:]
    output = torch.zeros(batch, out_channels, out_h, out_w, dtype=torch.float64)
    maps = input.tolist()
    for b, o, i, j in (
        (b, o, i, j)
        for b in range(batch)
        for o in range(out_channels)
        for i in range(out_h)
        for j in range(out_w)
    ):
        for c in range(per_group):
            channel = o // (out_channels // groups) * per_group + c
            deform = channel // (channels // deform_groups)
            for k in range(kernel_h):
                for m in range(kernel_w):
                    point = deform * kernel_h * kernel_w + k * kernel_w + m
                    y = i * stride[0] - padding[0] + k * dilation[0] + offset[b, 2 * point, i, j]
                    x = (
                        j * stride[1]
                        - padding[1]
                        + m * dilation[1]
                        + offset[b, 2 * point + 1, i, j]
                    )
                    value = oracle_sample(maps[b][channel], float(y), float(x))
                    strength = 1.0 if mask is None else float(mask[b, point, i, j])
                    output[b, o, i, j] += value * strength * float(weight[o, c, k, m])
    return output


@st.composite
def problems(draw):
    pair = lambda low, high: (draw(st.integers(low, high)), draw(st.integers(low, high)))  # noqa: E731
    deform_groups, groups = draw(st.sampled_from([1, 2])), draw(st.sampled_from([1, 2, 4]))
    kernel, stride, padding, dilation = pair(1, 2), pair(1, 2), pair(0, 1), pair(1, 2)
    size = (draw(st.integers(3, 5)), draw(st.integers(3, 5)))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    out = [
        (size[a] + 2 * padding[a] - dilation[a] * (kernel[a] - 1) - 1) // stride[a] + 1
        for a in (0, 1)
    ]

    def rand(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    points = deform_groups * kernel[0] * kernel[1]
    # Far offsets leave the map; some are whole pixels.
    offset = rand(2, 2 * points, *out) * draw(st.sampled_from([0.0, 0.7, 4.0]))
    if draw(st.booleans()):
        offset = offset.round()
    return dict(
        input=rand(2, 4, *size),
        offset=offset,
        weight=rand(4, 4 // groups, *kernel),
        mask=rand(2, points, *out),
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        deform_groups=deform_groups,
    )


def run(problem, modulated):
    layout = [problem[k] for k in ('stride', 'padding', 'dilation', 'groups', 'deform_groups')]
    if modulated:
        bias = torch.arange(4.0, dtype=torch.float64)
        return mmcv.ops.modulated_deform_conv2d(
            problem['input'], problem['offset'], problem['mask'], problem['weight'], bias, *layout
        ) - bias.view(-1, 1, 1)
    return mmcv.ops.deform_conv2d(problem['input'], problem['offset'], problem['weight'], *layout)


@given(problems(), st.booleans())
def test_forward(problem, modulated):
    expected = oracle(**{**problem, 'mask': problem['mask'] if modulated else None})
    torch.testing.assert_close(run(problem, modulated), expected)


def memory_of(values, b, size):
    """The numbers of an image in a row, taken for maps of another size."""
    row, (height, width) = values[b].flatten().tolist(), size
    count = len(values[b]) * height * width
    return torch.tensor(row[:count], dtype=values.dtype).view(1, -1, height, width)


def test_offsets_of_a_larger_level_are_read_as_the_compiled_op_does():
    """As mmdet's DyHead gives them; its own comment says that it does as the official code."""
    torch.manual_seed(0)
    input, weight = (torch.randn(2, 4, 3, 2).double(), torch.randn(4, 4, 3, 3).double())
    offset, mask = torch.randn(2, 18, 5, 4).double(), torch.rand(2, 9, 5, 4).double()
    leaves = [t.requires_grad_() for t in (input, offset, mask, weight)]

    def convolve(input, offset, mask, weight):
        return mmcv.ops.modulated_deform_conv2d(input, offset, mask, weight, None, 1, 1, 1, 1, 1)

    found = convolve(*leaves)
    for b in (0, 1):
        held = dict(offset=offset.detach(), mask=mask.detach())
        read = {name: memory_of(values, b, (3, 2)) for name, values in held.items()}
        layout = dict(stride=(1, 1), padding=(1, 1), dilation=(1, 1), groups=1, deform_groups=1)
        expected = oracle(input[b : b + 1].detach(), weight=weight.detach(), **read, **layout)
        torch.testing.assert_close(found[b : b + 1].detach(), expected)
    assert torch.autograd.gradcheck(convolve, leaves)
    with pytest.raises(ValueError, match=r'size of its output, \(3, 2\).*but got \(2, 2\)'):
        convolve(input, offset[..., :2, :2], mask[..., :2, :2], weight)


def test_dyhead_runs():
    from mmdet.models.necks import DyHead

    neck = DyHead(64, 64, num_blocks=1)
    maps = tuple(torch.randn(1, 64, *size, requires_grad=True) for size in ((8, 6), (4, 3), (2, 2)))
    found = neck(maps)
    assert [level.shape for level in found] == [level.shape for level in maps]
    sum(level.sum() for level in found).backward()
    assert all(level.grad.isfinite().all() and level.grad.any() for level in maps)


@pytest.mark.parametrize('modulated', [False, True])
def test_gradients(modulated):
    torch.manual_seed(0)
    leaves = [
        torch.randn(2, 4, 4, 5, dtype=torch.float64),
        torch.randn(2, 2 * 2 * 4, 4, 5, dtype=torch.float64),
        torch.randn(2, 2 * 4, 4, 5, dtype=torch.float64),
        torch.randn(6, 2, 2, 2, dtype=torch.float64),
        torch.randn(6, dtype=torch.float64),
    ]
    leaves = [leaf.requires_grad_() for leaf in leaves]

    def both(input, offset, mask, weight, bias):
        layout = ((1, 2), (1, 2), (2, 1), 2, 2)
        if modulated:
            return mmcv.ops.modulated_deform_conv2d(input, offset, mask, weight, bias, *layout)
        return mmcv.ops.deform_conv2d(input, offset, weight, *layout)

    shape = (4 + 2 - 3) // 1 + 1, (5 + 4 - 2) // 2 + 1
    leaves[1], leaves[2] = (leaf.detach()[..., : shape[1]].requires_grad_() for leaf in leaves[1:3])
    used = leaves if modulated else [leaves[0], leaves[1], None, leaves[3], None]
    assert torch.autograd.gradcheck(both, used)


@pytest.mark.parametrize('modulated', [False, True])
def test_images_in_parts_are_the_whole_batch(modulated, monkeypatch):
    torch.manual_seed(0)
    leaves = [
        torch.randn(5, 4, 6, 6),
        torch.randn(5, 18, 6, 6),
        torch.rand(5, 9, 6, 6),
        torch.randn(4, 4, 3, 3),
    ]
    leaves = [leaf.requires_grad_() for leaf in leaves]

    def run():
        input, offset, mask, weight = leaves
        if modulated:
            output = mmcv.ops.modulated_deform_conv2d(input, offset, mask, weight, None, 1, 1)
        else:
            output = mmcv.ops.deform_conv2d(input, offset, weight, 1, 1)
        used = leaves if modulated else [input, offset, weight]
        return output, *torch.autograd.grad(output.square().sum(), used)

    whole = run()
    for values in (1, 2 * 4 * 9 * 36):  # one image, two images at a time
        monkeypatch.setattr(deformable, 'VALUES', values)
        for part, expected in zip(run(), whole, strict=True):
            torch.testing.assert_close(part, expected, rtol=1e-4, atol=1e-4)


def test_gradient_of_points_on_pixels():
    """Those of an untrained layer: the slope to the right, none a whole pixel outside."""
    image = torch.tensor([[[[1.0, 5.0, 2.0]]]], dtype=torch.float64)
    offset = torch.zeros(1, 2, 1, 5, dtype=torch.float64, requires_grad=True)
    one = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    output = mmcv.ops.deform_conv2d(image, offset, one, 1, (0, 1))
    assert output.flatten().tolist() == [0, 1, 5, 2, 0]
    output.sum().backward()
    # x = -1, 0, 1, 2, 3. In y, below the only row there is nothing.
    assert offset.grad[0, 1, 0].tolist() == [0, 4, -3, -2, 0]
    assert offset.grad[0, 0, 0].tolist() == [0, -1, -5, -2, 0]


def test_without_offsets_it_is_a_convolution():
    torch.manual_seed(0)
    x, weight = torch.randn(2, 4, 9, 7), torch.randn(6, 2, 3, 3)
    expected = F.conv2d(x, weight, None, 2, 2, 2, 2)
    offset = torch.zeros(2, 18, *expected.shape[-2:])
    torch.testing.assert_close(mmcv.ops.deform_conv2d(x, offset, weight, 2, 2, 2, 2), expected)
    layer = mmcv.ops.ModulatedDeformConv2dPack(4, 6, 3, padding=1)
    halved = F.conv2d(x, layer.weight, None, 1, 1) / 2 + layer.bias.view(-1, 1, 1)
    torch.testing.assert_close(layer(x), halved)


def test_undefined_offsets_read_nothing():
    offset = torch.tensor([[[[math.nan]], [[math.inf]]]])
    output = mmcv.ops.deform_conv2d(torch.ones(1, 1, 1, 1), offset, torch.ones(1, 1, 1, 1))
    assert output.item() == 0


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_is_rounded_once(dtype):
    torch.manual_seed(0)
    x, offset, weight = torch.randn(1, 4, 6, 6), torch.randn(1, 18, 6, 6), torch.randn(2, 4, 3, 3)
    x, offset, weight = (t.to(dtype).requires_grad_() for t in (x, offset, weight))
    output = mmcv.ops.deform_conv2d(x, offset, weight, 1, 1)
    exact = mmcv.ops.deform_conv2d(x.float(), offset.float(), weight.float(), 1, 1)
    assert torch.equal(output, exact.to(dtype))
    output.sum().backward()
    assert x.grad.dtype == offset.grad.dtype == weight.grad.dtype == dtype


@given(problems(), st.booleans())
def test_plain_forward_equals_torchvisions(problem, modulated):
    if deformable.torchvision_op('deform_conv2d', 'cpu') is None:
        pytest.skip('needs a torchvision that matches torch')
    served = run(problem, modulated)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deformable, 'torchvision_op', lambda name, device: None)
        torch.testing.assert_close(run(problem, modulated), served)


def test_masked_convolution():
    torch.manual_seed(0)
    x, weight, bias = torch.randn(1, 3, 5, 6), torch.randn(4, 3, 3, 3), torch.randn(4)
    mask = torch.rand(1, 5, 6) > 0.5
    expected = F.conv2d(x, weight, bias, padding=1) * mask
    torch.testing.assert_close(masked_conv2d(x, mask, weight, bias, 1), expected)
