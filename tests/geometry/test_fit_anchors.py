"""Anchors fitted to objects: what mmdet builds of the settings fits, whatever the objects are."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmdet.models.task_modules import AnchorGenerator, SSDAnchorGenerator, YOLOAnchorGenerator

from mmkd.geometry.fit_anchors import fit_anchors
from mmkd.geometry.prior_fit import best_grid_iou, shape_iou, shape_ratio

KINDS = {
    'SSDAnchorGenerator': (SSDAnchorGenerator, [8, 16, 32, 64, 128]),
    'AnchorGenerator': (AnchorGenerator, [8, 16, 32, 64, 128]),
    'YOLOAnchorGenerator': (YOLOAnchorGenerator, [8, 16, 32]),
}


def objects(seed, tall, side, spread):
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(200, 2, generator=generator)
    sides = side * torch.exp(spread * noise[:, :1])
    ratio = tall * torch.exp(0.2 * noise[:, 1:])
    return torch.cat([sides / ratio.sqrt(), sides * ratio.sqrt()], 1)


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize(('tall', 'side', 'spread'), [(0.5, 60, 0.0), (1, 40, 0.4), (2.5, 90, 0.4)])
def test_objects_of_one_kind_get_priors_that_fit(kind, tall, side, spread):
    """What is promised is what mmdet's own anchors do, and it is most of the objects."""
    sizes = objects(0, tall, side, spread)
    cls, strides = KINDS[kind]
    settings, share = fit_anchors(sizes, dict(type=kind, strides=strides))
    assert settings.pop('type') == kind and settings['strides'] == strides
    base = cls(**settings).base_anchors
    anchors = [level[:, 2:] - level[:, :2] for level in base]
    if kind == 'YOLOAnchorGenerator':
        fits = (shape_ratio(sizes, torch.cat(anchors)) < 4).any(1)
    else:
        offsets = [torch.full_like(a, s / 4) for a, s in zip(anchors, strides, strict=True)]
        fits = (shape_iou(sizes, torch.cat(anchors), torch.cat(offsets)) >= 0.5).any(1)
    assert fits.float().mean().item() == pytest.approx(share, abs=0.02)
    assert share >= 0.85


def test_the_number_of_anchors_stays():
    sizes = objects(0, 1.5, 60, 0.3)
    ssd = dict(type='SSDAnchorGenerator', strides=[8, 16], ratios=[[2], [2, 3]])
    retina = dict(type='AnchorGenerator', strides=[8, 16], ratios=[1.0], scales_per_octave=2)
    rpn = dict(type='AnchorGenerator', strides=[8, 16], ratios=[0.5, 1.0, 2.0], scales=[8])
    own = dict(rpn, scales=[1.0, 1.4], base_sizes=[14, 26])
    for settings, counts in ((ssd, [4, 6]), (retina, [2, 2]), (rpn, [3, 3]), (own, [6, 6])):
        found = dict(fit_anchors(sizes, settings).settings)
        built = KINDS[found.pop('type')][0](**found)
        assert built.num_base_priors == counts


def test_finer_levels_get_the_smaller_priors_in_any_order():
    sizes = objects(0, 1.0, 60, 0.6)
    up, down = (
        fit_anchors(sizes, dict(type='YOLOAnchorGenerator', strides=strides)).settings['base_sizes']
        for strides in ([8, 16, 32], [32, 16, 8])
    )
    assert up == down[::-1] and up[0] < up[2]


@pytest.mark.parametrize('settings', [dict(type='MlvlPointGenerator', strides=[8])])
def test_what_has_no_anchors_is_refused(settings):
    with pytest.raises(ValueError, match=r'MlvlPointGenerator.*Name one'):
        fit_anchors(torch.ones(1, 2), settings)
    with pytest.raises(ValueError, match='got 0 objects'):
        fit_anchors(torch.zeros(3, 2), dict(type='AnchorGenerator', strides=[8]))


@given(data=st.data())
def test_the_nearest_cell_is_the_best_of_all(data):
    """Against the IoU with each anchor in each cell."""
    cells = data.draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    generator = AnchorGenerator([8], [0.5, 1.0, 2.0], scales=[1, 3], center_offset=0.5)
    corner = st.floats(-5, 45)
    side = st.floats(1, 40)
    x, y, w, h = data.draw(st.tuples(corner, corner, side, side))
    box = torch.tensor([[x, y, x + w, y + h]])
    base = generator.base_anchors[0]
    bounds = torch.tensor([[0, cells[1] - 1], [0, cells[0] - 1]]).expand(len(base), 2, 2)
    priors = generator.grid_priors([cells], device='cpu')[0]
    low, high = torch.maximum(box[:, :2], priors[:, :2]), torch.minimum(box[:, 2:], priors[:, 2:])
    overlap = (high - low).clamp(min=0).prod(1)
    ious = overlap / (w * h + (priors[:, 2:] - priors[:, :2]).prod(1) - overlap)
    found = best_grid_iou(box, base, (8, 8), bounds)
    assert found.item() == pytest.approx(ious.max().item(), abs=1e-4)
