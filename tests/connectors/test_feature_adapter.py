import pytest
import torch
from mmrazor.registry import MODELS

from mmkd.connectors import FeatureAdapter


def test_a_map_gives_a_map_and_levels_give_levels():
    assert FeatureAdapter(3, 5)(torch.zeros(2, 3, 4, 6)).shape == (2, 5, 4, 6)
    adapter = FeatureAdapter([3, 4], [5, 6], kernel_size=3)
    shapes = [m.shape for m in adapter([torch.zeros(2, 3, 4, 6), torch.zeros(2, 4, 2, 3)])]
    assert shapes == [(2, 5, 4, 6), (2, 6, 2, 3)]


@pytest.mark.parametrize(
    ('scale', 'size', 'expected'),
    [
        (2.0, (10, 7), (20, 14)),
        (0.5, (19, 8), (10, 4)),  # as a stride of 2 with padding gives
        (1.9, (10, 10), (19, 19)),  # SSD300's odd levels
        (0.25, (5, 5), (2, 2)),
    ],
)
def test_spatial_alignment(scale, size, expected):
    assert FeatureAdapter(2, 3, scale=scale)(torch.zeros(1, 2, *size)).shape[2:] == expected


def test_shrinking_averages_and_growing_interpolates():
    adapter = FeatureAdapter(1, 1, scale=0.5)
    adapter.convs[0].conv.weight.data.fill_(1)
    adapter.convs[0].conv.bias.data.zero_()
    feature = torch.tensor([[[[1.0, 3.0], [5.0, 7.0]]]])
    assert adapter(feature).item() == 4


def test_is_trained():
    adapter = MODELS.build(dict(type='mmrazor.FeatureAdapter', in_channels=[3, 3], out_channels=5))
    assert len(list(adapter.parameters())) == 4
    sum(m.sum() for m in adapter([torch.randn(1, 3, 2, 2)] * 2)).backward()
    assert all(p.grad is not None for p in adapter.parameters())


def test_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match='one entry per level'):
        FeatureAdapter([3, 4], [5])
    with pytest.raises(ValueError, match='kernel_size must be odd'):
        FeatureAdapter(3, 5, kernel_size=2)
    with pytest.raises(ValueError, match=r'features must have \[3\] channels'):
        FeatureAdapter(3, 5)(torch.zeros(1, 4, 2, 2))
    with pytest.raises(ValueError, match=r'features must have \[3, 3\] channels'):
        FeatureAdapter([3, 3], 5)([torch.zeros(1, 3, 2, 2)])
