"""MMRazor's losses of one map on each level, against loops."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmrazor.models.losses import PKDLoss

from mmkd.connectors import EachLevelConnector, FeatureAdapter, StandardLevels
from mmkd.losses import EachLevel
from tests.losses.contract import LossCase, shape_faults

SIZES = ((4, 6), (2, 3))


def inputs(seed, dtype=torch.float32, channels=3):
    generator = torch.Generator().manual_seed(seed)

    def maps():
        return [torch.randn(2, channels, *s, generator=generator, dtype=dtype) for s in SIZES]

    return {'preds_S': maps(), 'preds_T': maps()}


CASE = LossCase(
    build=lambda **options: EachLevel(**{'loss': dict(type='ChannelWiseDivergence'), **options}),
    inputs=inputs,
    empty=None,  # it knows no objects
    faults=shape_faults('must agree in channels and strides', r'must be a \(B, C, H, W\) map'),
)


def cwd(s, t):
    """KL of the softmax over cells, for each image and channel, by images and channels."""
    total = 0.0
    for i in range(s.size(0)):
        for c in range(s.size(1)):
            a, b = s[i, c].flatten().tolist(), t[i, c].flatten().tolist()
            log_a, log_b = (
                [v - math.log(sum(map(math.exp, values))) for v in values] for values in (a, b)
            )
            total += sum(math.exp(q) * (q - p) for p, q in zip(log_a, log_b, strict=True))
    return total / s.size(0) / s.size(1)


def pkd(s, t):
    """1 - Pearson's r of each channel over images and cells, by the sample's deviation."""
    total = 0.0
    for c in range(s.size(1)):
        a, b = s[:, c].flatten().tolist(), t[:, c].flatten().tolist()
        n, mean_a, mean_b = len(a), sum(a) / len(a), sum(b) / len(b)
        var_a, var_b = sum((v - mean_a) ** 2 for v in a), sum((v - mean_b) ** 2 for v in b)
        both = sum((v - mean_a) * (w - mean_b) for v, w in zip(a, b, strict=True))
        total += (1 - both / math.sqrt(var_a * var_b)) * (n - 1) / n
    return total / s.size(1)


def mgd(s, t):
    return 2e-5 * float((s - t).square().sum()) / s.size(0)


@pytest.mark.parametrize(
    ('kind', 'oracle'), [('ChannelWiseDivergence', cwd), ('PKDLoss', pkd), ('MGDLoss', mgd)]
)
@given(seed=st.integers(0, 10**6))
@settings(max_examples=10)
def test_equals_the_oracle(kind, oracle, seed):
    data = inputs(seed, torch.float64)
    loss = EachLevel(dict(type=kind), loss_weight=2.0)
    expected = 2 * sum(oracle(s, t) for s, t in zip(*data.values(), strict=True))
    assert loss(**data).item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize('kind', ['ChannelWiseDivergence', 'PKDLoss', 'MGDLoss'])
def test_gradcheck(kind):
    data = inputs(0, torch.float64)
    loss = EachLevel(dict(type=kind))
    leaves = [m.requires_grad_() for m in data['preds_S']]
    assert torch.autograd.gradcheck(lambda *levels: loss(list(levels), data['preds_T']), leaves)


def test_maps_that_do_not_lie_in_order():
    data = inputs(0)
    turned = {
        key: [m.to(memory_format=torch.channels_last) for m in levels]
        for key, levels in data.items()
    }
    loss = CASE.build()
    assert loss(**turned).item() == pytest.approx(loss(**data).item())


def test_a_batchnorm_without_channels():
    levels = [3 * m + 5 for m in inputs(0, channels=4)['preds_S']]
    norm = torch.nn.BatchNorm2d(4, affine=False).train()
    for level, found in zip(levels, StandardLevels()(levels), strict=True):
        torch.testing.assert_close(found, norm(level))
    one = torch.ones(1, 4, 1, 1, requires_grad=True)
    found = StandardLevels()(one)
    found.sum().backward()
    assert not found.any() and one.grad.isfinite().all()


def test_a_connector_for_each_level():
    maps = inputs(0)['preds_S']
    each = EachLevelConnector(dict(type='MGDConnector', lambda_mgd=1.0), 3, [5, 7])
    found = each(maps)
    assert [m.shape[1] for m in found] == [5, 7]
    hidden = each([m + 9 for m in maps])
    assert all(torch.allclose(a, b) for a, b in zip(found, hidden, strict=True)), 'all is hidden'
    with pytest.raises(ValueError, match=r'features must have 2 levels.*got list of'):
        each(maps[:1])
    with pytest.raises(ValueError, match='need one entry per level'):
        EachLevelConnector(dict(type='MGDConnector'), [3], [5, 7])


def test_an_adapter_where_channels_differ():
    maps = inputs(0)['preds_S']
    adapter = FeatureAdapter([3, 3], [3, 5], keep_equal=True)
    found = adapter(maps)
    assert found[0] is maps[0] and found[1].size(1) == 5
    assert len(list(adapter.parameters())) == 2
    with pytest.raises(ValueError, match=r'must have \[3, 3\] channels'):
        adapter([m[:, 1:] for m in maps])


def test_a_level_of_a_single_cell_has_no_pattern():
    """PKDLoss alone is NaN there; if not, ``_term`` of EachLevel is no longer needed."""
    cell, other = torch.randn(1, 3, 1, 1, requires_grad=True), torch.randn(1, 3, 1, 1)
    assert PKDLoss()(cell, other).isnan()
    maps = [torch.randn(1, 3, 4, 4), cell], [torch.randn(1, 3, 4, 4), other]
    loss = EachLevel(dict(type='PKDLoss'))
    found = loss(*maps)
    found.backward()
    assert found == loss(maps[0][0], maps[1][0]) > 0
    assert not cell.grad.any()
